"""A run's champion as weights to serve: found in its journal, and followed there while the run goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec

from moevolve.config import Config
from moevolve.errors import StoreError, UsageError
from moevolve.policy.checkpoint import seed_checkpoint
from moevolve.policy.engine import Engine
from moevolve.records import Gated, RunStarted, VariantAdded
from moevolve.store import RunStore

LARGE = 100_000_000
"""Parameters beyond which an adapter stands beside weights that stay as they are."""


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
                case Gated(decision="promote", candidate=candidate):
                    self._champion = candidate
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
        """
        return base_engine(self.config, threads)

    def engine(self, base: Engine, champion: Champion) -> Engine:
        """A copy of `base` with the champion's weights.

        Raises:
            StoreError: the weights' file is gone.
        """
        file = self._store.weights_dir / f"{champion.weights}.safetensors"
        if not file.is_file():
            raise StoreError(f"the weights of {champion.variant} are missing: {file} is gone")
        engine = base.clone()
        engine.native.read_weights(str(file))
        return engine


def base_engine(config: Config, threads: int = 0) -> Engine:
    """An engine whose weights can be those of a run's variants: large and quantised models have them in an adapter.

    Raises:
        CheckpointError: the checkpoint is gone.
    """
    policy = config.policy
    path = Path(policy.checkpoint) if policy.checkpoint else seed_checkpoint()
    precision = "fastest" if policy.precision == "auto" else policy.precision
    engine = Engine.load(path, threads=threads, precision=precision, weights="auto")
    if path.suffix == ".gguf" or engine.parameters > LARGE:
        engine.adapt(seed=config.seed)
    return engine
