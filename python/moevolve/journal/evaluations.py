"""What an evaluator said beside its scores, in a table beside the chain: artifacts, and what it printed."""

from __future__ import annotations

from typing import Protocol

import msgspec

from moevolve.errors import StoreError

TABLE = "artifacts"


class Told(msgspec.Struct):
    """What one evaluation told beside its score."""

    artifacts: dict[str, str]
    output: str


class Scanned(Protocol):
    """What reading artifacts needs of `RunStore`."""

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]: ...


def key(evaluation: int) -> str:
    """An evaluation's key in the table."""
    return f"{evaluation:08d}"


def told(store: Scanned, evaluation: int) -> Told | None:
    """What an evaluation told; None where that was nothing.

    Raises:
        StoreError: what lies there cannot be read.
    """
    rows = store.scan(TABLE, key(evaluation), limit=1)
    try:
        return msgspec.msgpack.decode(rows[0][1], type=Told) if rows else None
    except msgspec.DecodeError as error:
        raise StoreError(f"the artifacts of evaluation {evaluation} cannot be read: {error}") from error
