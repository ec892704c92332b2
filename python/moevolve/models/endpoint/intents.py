"""Calls under way, in a file beside the journal: what was sent when a process was killed, so that it is on the bill.

A line is written before a request is sent and another when its last bytes leave, each by one system call, so that whatever
kills the process leaves them. A call that left and whose end nobody saw counts as one without usage figures.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from moevolve.models.endpoint.exchange import Exchange
from moevolve.protocol import packing

NAME = "calls_under_way"
"""The file's name in the run's folder; it is gone where nothing is under way."""

_decode = msgspec.msgpack.Decoder(Exchange, ext_hook=packing.wide).decode


class Intents:
    """The file of one run.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None

    def begin(self, digest: str, so_far: Exchange) -> None:
        """Says that a call is about to be made, and what its request has come to before it."""
        self._write(f"begin {digest} {base64.b64encode(packing.encode(so_far)).decode()}\n")

    def sent(self, digest: str) -> None:
        """Says that the call is the server's to answer."""
        self._write(f"sent {digest}\n")

    def left(self) -> dict[str, Exchange]:
        """What requests had come to whose process ended with a call under way, by digest."""
        found: dict[str, Exchange] = {}
        for digest, exchange, sent in _states(self._lines()):
            found[digest] = msgspec.structs.replace(
                exchange, calls=exchange.calls + sent, unmetered=exchange.unmetered + sent
            )
        return {digest: exchange for digest, exchange in found.items() if exchange.calls}

    def settle(self) -> None:
        """Nothing is under way."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(self._file, line.encode())

    def _lines(self) -> list[list[str]]:
        if not self._path.is_file():
            return []
        whole, _, _torn = self._path.read_text("ascii", "replace").rpartition("\n")
        return [line.split(" ") for line in whole.splitlines()]


def _states(lines: list[list[str]]) -> Iterator[tuple[str, Exchange, bool]]:
    """(digest, what it had come to, whether a call was out) of each request, as its last lines say."""
    begun: dict[str, Exchange] = {}
    out: dict[str, bool] = {}
    for line in lines:
        match line:
            case ["begin", digest, body]:
                try:
                    begun[digest], out[digest] = _decode(base64.b64decode(body)), False
                except (ValueError, msgspec.DecodeError):
                    continue
            case ["sent", digest]:
                out[digest] = True
    for digest, exchange in begun.items():
        yield digest, exchange, out[digest]
