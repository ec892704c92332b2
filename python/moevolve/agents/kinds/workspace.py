"""Requests to the workspace of an attempt that has no box: the task's files and what it writes, held by the host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result

MOST_BYTES = 8 << 20
"""Of all files of one attempt."""
MOST_SENT = 4 * MOST_BYTES
"""Bytes of requests of one attempt that its workspace may take: whole more than once, and a letter may be six."""
MOST_FILES = 4096
"""Files and folders, all of them together: a check's box has room for as many."""
LONGEST_NAME = 255
"""Bytes of one name in a path, as file systems have it."""
PIECE = 64 << 10
"""Characters that one request reads or writes."""

_PATH = re.compile(r"(?=.{1,200}\Z)[^/\0]+(/[^/\0]+)*")


class WireWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step on a workspace."""

    step: Literal["paths", "read", "write", "remove"]
    path: str = ""
    start: Annotated[int, Meta(ge=0)] = 0
    """The first character of what is read."""
    text: Annotated[str, Meta(max_length=PIECE)] = ""
    more: bool = False
    """Writes behind what is there."""


class WorkspaceFiles:
    """Paths, pieces of text, and what a step leaves of a workspace.

    A step is carried out when it is asked for, in the order of attempts and their requests: an attempt's files are its own.
    """

    wire = WireWorkspace

    def request(self, asked: WireWorkspace, attempt: Attempt, index: int, key: int) -> Any:
        files = attempt.files
        if files is None:
            raise Refused("rejected", "workspace: there is none here (in a box it is the working directory)")
        if asked.step == "paths":
            return sorted(files)
        names = asked.path.split("/")
        endless = any(len(name.encode("utf-8", "replace")) > LONGEST_NAME for name in names)
        if endless or not _PATH.fullmatch(asked.path) or {".", ".."} & set(names):
            raise Refused("rejected", f"workspace: {asked.path!r} is no path in a workspace")
        if asked.step == "write":
            return self._write(files, asked)
        if asked.path not in files:
            raise Refused("rejected", f"workspace: there is no file {asked.path!r}")
        if asked.step == "remove":
            del files[asked.path]
            return None
        try:
            text = files[asked.path].decode()
        except UnicodeDecodeError:
            raise Refused("rejected", f"workspace: {asked.path!r} is no UTF-8 text") from None
        piece = text[asked.start : asked.start + PIECE]
        return piece, len(text) - asked.start - len(piece)

    def answer(self, requests: list[Any]) -> Sequence[Result]:
        return [Given(value) for value in requests]

    def _write(self, files: dict[str, bytes], asked: WireWorkspace) -> None:
        data = asked.text.encode("utf-8", "replace")
        if asked.more:
            data = files.get(asked.path, b"") + data
        together = sum(map(len, files.values())) - len(files.get(asked.path, b"")) + len(data)
        paths = [*files, asked.path]
        if together > MOST_BYTES or len(set(paths)) + len(_folders(paths)) > MOST_FILES:
            raise Refused(
                "budget",
                f"workspace: at most {MOST_BYTES >> 20} MiB in {MOST_FILES:,} files and folders, all of them together",
            )
        folders = _folders([asked.path])
        if folders & files.keys() or any(path.startswith(f"{asked.path}/") for path in files):
            raise Refused("rejected", f"workspace: {asked.path!r} would be a file and a folder")
        files[asked.path] = data


def _folders(paths: Iterable[str]) -> set[str]:
    """The folders that paths go through."""
    return {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
