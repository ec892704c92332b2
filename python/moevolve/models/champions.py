"""A run's champion as a model: read off its journal, and followed there while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Generic

import msgspec

from moevolve.config import Config
from moevolve.errors import StoreError, UsageError
from moevolve.journal.ratings import optimises
from moevolve.journal.reader import RunReader
from moevolve.journal.store import RunStore
from moevolve.journal.view import RunView
from moevolve.models.configured import Model, checkpoint, configured, know_kept
from moevolve.records import VariantAdded

ELSEWHERE = (
    "has an endpoint for its policy: there are no weights here. Its champion is a program: `moevolve serve RUN` and "
    "`moevolve generate --model RUN` let it answer, `moevolve eval SUITE --run RUN` scores it, `moevolve export RUN --agent "
    "DIR` writes it"
)
"""Said of a run whose policy is a server's where weights are wanted."""


class Champion(msgspec.Struct, frozen=True):
    """A variant that the gate promoted, or the seed."""

    variant: str
    weights: str
    program: str = ""
    """Content hash of its program; empty of a model without one."""


class Champions(Generic[Model]):
    """Follows a run's journal. A program is no part of the model, its variant's weights are.

    Args:
        store: the run, open for reading.
        kind: class of the models.

    Raises:
        UsageError: the run holds no record yet, or has no model.
    """

    def __init__(self, store: RunStore, kind: type[Model]) -> None:
        self._store = store
        self._kind = kind
        self._reader = RunReader(store)
        self._reader.refresh()
        if self._reader.view.started is None:
            raise UsageError(f"{store.path} holds no record yet: there is no champion yet")
        self.started = self._reader.started
        if optimises(self.started):
            raise UsageError(f"{store.path} searched programs for an evaluator: it has no model")
        self.config = Config.from_canonical(self.started.config)

    @property
    def view(self) -> RunView:
        """The run as it is on record now."""
        self._reader.refresh()
        return self._reader.view

    def newest(self) -> Champion:
        """The champion by what is on record now."""
        view = self.view
        row = view.variants.row(view.champion)
        if row is None:
            raise StoreError(
                f"{self._store.path} names the champion {view.champion} and holds no such variant"
            )
        variant = self._reader.variant(row)
        return Champion(view.champion, variant.weights, variant.program)

    def record(self, champion: Champion) -> VariantAdded:
        """The record that added a champion to the run's archive."""
        row = self.view.variants.row(champion.variant)
        assert row is not None, "a champion is a variant"
        return self._reader.variant(row)

    def base(self, threads: int = 0, device: str = "cpu") -> Model:
        """A model of the run's architecture on a device; its weights are those that the run began with.

        Raises:
            CheckpointError: the run's checkpoint is gone.
            UsageError: the run's policy is an endpoint, or the device cannot be used here.
        """
        if self.config.policy.endpoint is not None:
            raise UsageError(f"{self._store.path} {ELSEWHERE}")
        # What a server learns lies inside the folder of the run.
        know_kept(self.config, self._store.path, self._store.path.parent)
        policy = msgspec.structs.replace(self.config.policy, threads=threads, device=device)
        return configured(msgspec.structs.replace(self.config, policy=policy), self._kind)

    def engine(self, base: Model, champion: Champion) -> Model:
        """A copy of `base` with the champion's weights; errors as of `read`."""
        engine = base.clone()
        self.read(engine, champion)
        return engine

    def read(self, model: Model, champion: Champion) -> None:
        """Gives a model of the run's architecture the champion's weights.

        Raises:
            StoreError: the weights' file is gone.
        """
        file = self._store.weights_dir / f"{champion.weights}.safetensors"
        if not file.is_file():
            raise StoreError(f"the weights of {champion.variant} are missing: {file} is gone")
        model.read_weights(file)


def model_of(folder: Path, kind: type[Model]) -> Path:
    """The model that the run in a folder starts from: its champion is of the same architecture.

    Raises:
        UsageError: the run holds no record yet, or has no model here.
        CheckpointError: the model that it keeps is gone.
    """
    with RunStore.open(folder) as store:
        config = Champions(store, kind).config
    if config.policy.endpoint is not None:
        raise UsageError(f"{folder} {ELSEWHERE}")
    know_kept(config, folder)
    return checkpoint(config)


def champion_of(folder: Path, kind: type[Model], threads: int = 0, device: str = "cpu") -> Model:
    """The newest champion of the run in a folder, which may go on meanwhile.

    Raises:
        UsageError: the run holds no record yet, or its policy is an endpoint.
        CheckpointError: the checkpoint that the run began with is gone.
        StoreError: the champion's weights are gone.
    """
    with RunStore.open(folder) as store:
        champions = Champions(store, kind)
        model = champions.base(threads, device)
        champions.read(model, champions.newest())
        return model
