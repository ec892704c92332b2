"""A run's champion as weights to serve: found in its journal, and followed there while the run goes on."""

from __future__ import annotations

import msgspec

from moevolve.config import Config
from moevolve.errors import StoreError, UsageError
from moevolve.journal.store import RunStore
from moevolve.loop import model
from moevolve.models.engine import Engine
from moevolve.records import Gated, RolledBack, RunStarted, VariantAdded


class Champion(msgspec.Struct, frozen=True):
    """A variant that the gate promoted, or the seed."""

    variant: str
    weights: str


class Champions:
    """Reads a run's journal from where it was read before. A program is not served, its variant's weights are.

    Args:
        store: the run, open for reading.

    Raises:
        UsageError: the run holds no record yet.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._cursor = 0
        self._weights: dict[str, str] = {}
        first = store.entries(0, 1)
        if not first or not isinstance(first[0].record, RunStarted):
            raise UsageError(f"{store.path} holds no record yet: there is no champion to serve")
        self.config = Config.from_canonical(first[0].record.config)
        self._champion = first[0].record.champion

    def newest(self) -> Champion:
        """The champion by what is on record now."""
        entries = self._store.entries(self._cursor)
        for entry in entries:
            match entry.record:
                case VariantAdded(variant=variant, weights=weights):
                    self._weights[variant] = weights
                case Gated(decision="promote", candidate=champion) | RolledBack(champion=champion):
                    self._champion = champion
                case _:
                    pass
        self._cursor += len(entries)
        if self._champion not in self._weights:
            raise StoreError(
                f"{self._store.path} names the champion {self._champion} and holds no such variant"
            )
        return Champion(self._champion, self._weights[self._champion])

    def base(self, threads: int = 0) -> Engine:
        """An engine of the run's architecture; its weights are those that the run began with.

        Raises:
            CheckpointError: the run's checkpoint is gone.
            UsageError: the run's policy is an endpoint.
        """
        if self.config.policy.endpoint is not None:
            raise UsageError(
                f"{self._store.path} has an endpoint for its policy: there are no weights to serve"
            )
        policy = msgspec.structs.replace(self.config.policy, threads=threads)
        return model.load(msgspec.structs.replace(self.config, policy=policy))

    def engine(self, base: Engine, champion: Champion) -> Engine:
        """A copy of `base` with the champion's weights.

        Raises:
            StoreError: the weights' file is gone.
        """
        file = self._store.weights_dir / f"{champion.weights}.safetensors"
        if not file.is_file():
            raise StoreError(f"the weights of {champion.variant} are missing: {file} is gone")
        engine = base.clone()
        engine.read_weights(file)
        return engine
