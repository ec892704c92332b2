"""A program as a value: a small folder of Python files, named by the hash of its content."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from moevolve.errors import UsageError
from moevolve.records import Edit, Struct

SEED_FILES = ("improve.py", "learn.py", "solve.py")
MOST_FILES = 16
MOST_CHARACTERS = 64 << 10
"""Of one file."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\.py")
_RESERVED = {"agent.py", "contract.py", "loader.py", "operators.py", "plan.py", "rounds.py", "worker.py"}


class Genome(Struct, frozen=True):
    """The source of a program, by file name."""

    files: dict[str, str]

    @property
    def hash(self) -> str:
        """Content hash (BLAKE2b-256, hex) over the files in order of name."""
        digest = hashlib.blake2b(digest_size=32)
        for path, text in sorted(self.files.items()):
            for part in (path, text):
                data = part.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.hexdigest()

    def edited(self, edits: Sequence[Edit]) -> Genome:
        """The program after `edits`.

        Raises:
            UsageError: a file name or size that no program may have.
        """
        changed = self.files | {edit.path: edit.text for edit in edits}
        fault = unusable(changed)
        if fault:
            raise UsageError(fault)
        return Genome(files=dict(sorted(changed.items())))

    def write(self, folder: Path) -> None:
        """Makes `folder` hold exactly this program's Python files."""
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.py"):
            if stale.name not in self.files:
                stale.unlink()
        for path, text in self.files.items():
            (folder / path).write_text(text, encoding="utf-8")

    def diff(self, other: Genome) -> str:
        """Unified diff from this program to `other`; empty if they are the same."""
        lines: list[str] = []
        for path in sorted(self.files.keys() | other.files.keys()):
            before = self.files.get(path, "").splitlines(keepends=True)
            after = other.files.get(path, "").splitlines(keepends=True)
            lines += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def unusable(program: Mapping[str, str]) -> str | None:
    """Why these files cannot be a program, in words; None if they can."""
    if len(program) > MOST_FILES:
        return f"a program has at most {MOST_FILES} files, this one has {len(program)}"
    for path, text in program.items():
        if not _NAME.fullmatch(path) or path in _RESERVED:
            return f"a program's file cannot be called {path!r}"
        if "\0" in text:
            return f"{path} holds NUL characters"
        if len(text) > MOST_CHARACTERS:
            return f"{path} has {len(text)} characters, more than {MOST_CHARACTERS}"
    return None


@cache
def seed_genome() -> Genome:
    """The program that every run starts from: it asks once."""
    folder = Path(__file__).parent / "seed"
    return Genome(files={name: (folder / name).read_text(encoding="utf-8") for name in SEED_FILES})
