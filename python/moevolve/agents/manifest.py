"""`agent.toml`: what somebody's own agent is, and which of its files may be edited."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from moevolve.errors import UsageError

MANIFEST = "agent.toml"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent's description; each key may be left out.

    Attributes:
        kind: `function`, an `async def solve(task, agent)` in `solve.py`.
        edit: patterns of the files that may be edited, such as `prompts/*.md`; all but `agent.toml` where it is left out.
    """

    kind: Literal["function"] = "function"
    edit: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None

    @property
    def module(self) -> str:
        """The file that answers tasks."""
        return "solve.py"

    def editable(self, path: str) -> bool:
        """Whether a file may be edited, or made."""
        if path == MANIFEST:
            return False
        return self.edit is None or any(fnmatchcase(path, pattern) for pattern in self.edit)


def manifest_of(files: Mapping[str, str], where: str = MANIFEST) -> Manifest:
    """The description in a program's files; the default where there is none.

    Raises:
        UsageError: an `agent.toml` that cannot be used; `where` names it.
    """
    text = files.get(MANIFEST)
    return Manifest() if text is None else _read(text, where)


@lru_cache(64)
def _read(text: str, where: str) -> Manifest:
    try:
        return msgspec.convert(tomllib.loads(text), Manifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{where}: {error}") from None
