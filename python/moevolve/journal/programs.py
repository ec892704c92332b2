"""Programs on file: a variant's source files by the content hash that its record names."""

from __future__ import annotations

from typing import Protocol

import msgspec

from moevolve.errors import StoreError

_decode = msgspec.msgpack.Decoder(dict[str, str]).decode


class Blobs(Protocol):
    """What reading programs needs of `RunStore`."""

    def blob(self, hash: str) -> bytes: ...


def program_files(store: Blobs, program: str) -> dict[str, str]:
    """Path -> source text of the program with this hash.

    Raises:
        StoreError: there is none, or what lies there is none.
    """
    try:
        return _decode(store.blob(program))
    except msgspec.DecodeError as error:
        raise StoreError(f"{program[:12]} is no program: {error}") from error
