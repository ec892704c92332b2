"""What a model weighs and where it fits, from its configuration alone."""

from __future__ import annotations

from os import PathLike, fspath

import msgspec

from moevolve import _native

RESERVED = 0.05
"""Share of a memory that is not for weights and cache: the driver's or system's part, activations, fragments."""


class Part(msgspec.Struct, frozen=True):
    """One kind of weights, over all layers."""

    name: str
    parameters: int
    active: int
    """Per token."""


class Plan(msgspec.Struct, frozen=True):
    """A model's sizes: counts of single numbers, or bytes where the name says so."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    key_heads: int
    head: int
    vocabulary: int
    experts: int
    """1 where the model is dense."""
    chosen: int
    positions: int | None
    parameters: int
    active: int
    """Parameters that a token is multiplied with, the output head included."""
    active_without_vocabulary: int
    kv_bytes_per_token: int
    """Keys and values of all layers, as bf16."""
    parts: tuple[Part, ...]
    bytes: dict[str, int]
    """All weights by format."""
    stored_bytes: int | None
    """What a GGUF holds."""
    obstacle: str | None = None
    """Why loading refuses this configuration, where it does."""

    @classmethod
    def of(cls, path: str | PathLike[str]) -> Plan:
        """Reads a checkpoint folder, its config.json, or the header of a GGUF file.

        Raises:
            CheckpointError: a file or a field is missing or impossible; names it.
        """
        return msgspec.json.decode(_native.plan(fspath(path)), type=cls)

    @property
    def weights(self) -> dict[str, int]:
        """Bytes by format, largest first; those of a GGUF as it is come first."""
        stored = {} if self.stored_bytes is None else {"stored": self.stored_bytes}
        return stored | dict(sorted(self.bytes.items(), key=lambda item: (-item[1], item[0])))

    def room(self, format: str, memory: int, batch: int) -> int:
        """Tokens that each of `batch` sequences can have beside the weights in `memory` bytes; 0 without room for them."""
        left = int(memory * (1 - RESERVED)) - self.weights[format]
        tokens = left // (batch * self.kv_bytes_per_token) if left > 0 else 0
        return tokens if self.positions is None else min(tokens, self.positions)
