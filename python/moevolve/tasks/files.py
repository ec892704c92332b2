"""The files of a task: what lies in the workspace of an agent that has one, before it begins."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from moevolve.errors import UsageError
from moevolve.journal.folders import paths_in

FOLDER = "files"
"""Beside `tasks.jsonl`; a task's `files` names a folder or a file in it."""
MOST = 16 << 20
"""Bytes of one task's files."""


class TaskFiles:
    """Where a task's files lie; they are read when an attempt needs them.

    Args:
        place: the folder whose content, or the file that, is put into the workspace.
        name: what the suite calls it, wherever that lies.
    """

    __slots__ = ("name", "place")

    def __init__(self, place: Path, name: str) -> None:
        self.place = place
        self.name = name

    def read(self) -> tuple[tuple[str, bytes], ...]:
        """Path in the workspace and content of each, in the order of paths."""
        return _read(self.place)


def files_of(source: Path, name: str, where: str) -> TaskFiles | None:
    """The files that a line of `tasks.jsonl` names; None where it names none.

    Raises:
        UsageError: there are none of that name in the suite's folder, or they are too large; `where` names the line.
    """
    if not name:
        return None
    top = (source / FOLDER).resolve()
    place = (top / name).resolve()
    if not place.is_relative_to(top) or place == top or not place.exists():
        raise UsageError(f"{where}: `files` is {name!r}, and {source / FOLDER} holds nothing of that name")
    found = [place] if place.is_file() else _within(place)
    if (size := sum(path.stat().st_size for path in found)) > MOST:
        raise UsageError(f"{where}: its files have {size} bytes, and a task's have at most {MOST >> 20} MiB")
    return TaskFiles(place, place.relative_to(top).as_posix())


@lru_cache(256)
def _read(place: Path) -> tuple[tuple[str, bytes], ...]:
    if place.is_file():
        return ((place.name, place.read_bytes()),)
    found = _within(place)
    return tuple((path.relative_to(place).as_posix(), path.read_bytes()) for path in found)


def _within(place: Path) -> list[Path]:
    """The files of a folder, hidden ones too: what a run's copy of the suite has."""
    return [path for path in paths_in(place, hidden=".") if path.is_file()]
