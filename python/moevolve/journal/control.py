"""What a person asks of a run: numbered files in its folder, which the run takes up between two stages.

A run's store has one writer. Whoever else wants something of the run leaves a request beside the store; the writer turns it
into a record (`Controlled`, `Imported`), and what the record says is what holds, in a run that goes on or is done again
as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from moevolve.records import Command

FOLDER = "control"
_DIGITS = 6


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing asked for. `variant` is the one that `approve` and `reject` are about, or the change of `rollback`; `files`
    an imported program."""

    command: Command | Literal["import"]
    variant: str = ""
    files: dict[str, str] = {}


class Inbox:
    """The requests of one run.

    Args:
        run: its folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER

    def put(self, request: Request, after: int) -> int:
        """Leaves a request; returns its number.

        Args:
            request: what is asked.
            after: the last number that is on the run's record.
        """
        self._folder.mkdir(exist_ok=True)
        beside = self._folder / f".{os.getpid()}.partial"
        beside.write_bytes(msgspec.json.encode(request))
        try:
            number = max([after, *(number for number, _ in self._files())])
            while True:
                number += 1
                try:
                    # A link appears whole, and only if nobody else took the number.
                    os.link(beside, self._folder / f"{number:0{_DIGITS}d}.json")
                    return number
                except FileExistsError:
                    continue
        finally:
            beside.unlink()

    def next(self, after: int) -> tuple[int, Request] | None:
        """The first request with a number above `after`; None where there is none. What is no request is passed over."""
        for number, path in sorted(self._files()):
            if number > after:
                try:
                    return number, msgspec.json.decode(path.read_bytes(), type=Request)
                except (OSError, msgspec.DecodeError):
                    continue
        return None

    def withdraw(self, commands: Sequence[str], after: int) -> None:
        """Takes back requests of these kinds with a number above `after`: nobody has taken them up."""
        for number, path in sorted(self._files()):
            if number <= after:
                continue
            with suppress(OSError, msgspec.DecodeError):
                if msgspec.json.decode(path.read_bytes(), type=Request).command in commands:
                    path.unlink()

    def _files(self) -> Iterator[tuple[int, Path]]:
        if self._folder.is_dir():
            for path in self._folder.glob("*.json"):
                if path.stem.isdecimal() and path.stem.isascii():
                    yield int(path.stem), path
