"""Weights and programs by content hash: the parts that variants are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from moevolve.agents.genome import Genome
from moevolve.errors import StoreError
from moevolve.journal.programs import program_files
from moevolve.journal.store import RunStore
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.proposers.search import meaning
from moevolve.protocol.policy import Policy
from moevolve.records import Metered


class VariantStore:
    """A run's weights (files under `weights/`) and programs (blobs in the store).

    Args:
        store: the run.
        engine: a loaded engine that gives the architecture and the tokenizer; its weights are not kept.
        prompts: how texts become the model's tokens; None asks with the bare texts.
    """

    def __init__(self, store: RunStore, engine: Engine, prompts: Prompts | None = None) -> None:
        self._store = store
        self._engine = engine
        self.prompts = prompts or BarePrompts(engine)
        self._policies: dict[str, Policy] = {}
        self._files: dict[str, str] = {}
        self._meanings: dict[str, str] = {}
        store.weights_dir.mkdir(parents=True, exist_ok=True)

    def keep(self, engine: Engine) -> str:
        """Writes an engine's weights; returns their hash."""
        weights = engine.weights_hash
        file = self._file(weights)
        if not file.exists():
            engine.write_weights(file)
        return weights

    def policies(self, weights: Sequence[str]) -> dict[str, Policy]:
        """The policies with these weights, which stay loaded until others are wanted."""
        for held in [held for held in self._policies if held not in weights]:
            del self._policies[held]
        for name in weights:
            if name not in self._policies:
                self._policies[name] = EnginePolicy(self.engine(name), name, self.prompts)
        return dict(self._policies)

    def engine(self, weights: str) -> Engine:
        """A fresh engine with these weights, for training or serving."""
        file = self._file(weights)
        if not file.exists():
            raise StoreError(f"weights {weights[:12]} are missing: {file} is gone, so this run cannot go on")
        engine = self._engine.clone()
        engine.read_weights(file)
        return engine

    def bill(self, cycle: int, stage: str) -> list[Metered]:
        """What a server charged since the last bill: nothing, since no server answers here."""
        return []

    def release(self) -> None:
        """Frees what was laid aside of a spending limit for the last evaluation; there is no limit here."""

    def hold(self, genome: Genome) -> str:
        """Stores a program; returns its hash."""
        return self._store.put_blob(encode(genome))

    def genome(self, program: str) -> Genome:
        """The program of this hash."""
        return genome_in(self._store, program)

    def meaning(self, program: str) -> str:
        """What the program of this hash says, as `proposers.search.meaning` has it."""
        if program not in self._meanings:
            self._meanings[program] = meaning(self.genome(program))
        return self._meanings[program]

    def weights_file(self, weights: str) -> str | None:
        """BLAKE3 hash of the bytes of the weights' file; None where a server has them."""
        if weights not in self._files:
            self._files[weights] = blake3().update_mmap(self._file(weights)).hexdigest()
        return self._files[weights]

    def _file(self, weights: str) -> Path:
        return self._store.weights_dir / f"{weights}.safetensors"


def genome_in(store: RunStore, program: str) -> Genome:
    """The program of this hash in a run's store."""
    return Genome(files=program_files(store, program))


def encode(genome: Genome) -> bytes:
    """A program as stored: MessagePack of path -> source, paths in order."""
    return msgspec.msgpack.encode(dict(sorted(genome.files.items())))
