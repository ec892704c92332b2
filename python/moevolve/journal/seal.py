"""The seal of a finished run: one text file with the SHA-256 digest of every file that the run consists of.

The journal's chain covers its records, and blobs and weights lie under their hashes. The seal covers what neither does:
the store's free pages, timings, tables, the champion's program and the settings. `sha256sum --check SEAL` reads it as
well. Whatever writes to the run's store takes the seal off first, so nobody has gone on with a run that is sealed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

SEAL = "SEAL"
"""The file's name inside a run's folder."""
DIGEST = "sha256"
"""The name on record of how files are digested."""
FOLDERS = ("journal", "weights", "program", "suite", "agent", "evaluator", "model")
"""Folders all of whose files belong to the run."""
LOCKS = ("journal/lock.mdb", "journal/writer.lock")
"""Files by which processes take turns: every reader changes them, and nothing is kept in them."""
CACHE = "__pycache__"
"""What Python writes beside a suite's files when it reads them."""
BESIDE = ("run.toml", "estimate.json", "attempts.tape", "embeddings.tape")
"""Files of a run outside of these folders, where it has them."""


class Sealable(Protocol):
    """What a seal needs of a run's store."""

    path: Path

    def head(self) -> str: ...
    def __len__(self) -> int: ...


def write(store: Sealable) -> None:
    """Seals a run that nobody writes any more; the file appears whole or not at all."""
    text = [
        f"# Moevolve's seal of a finished run: `sha256sum --check {SEAL}` in this folder compares its files",
        f"# head {store.head()}",
        f"# entries {len(store)}",
        *(f"{_digest(store.path / name)}  {name}" for name in files(store.path)),
    ]
    body = "".join(f"{line}\n" for line in text)
    partial = store.path / f".{SEAL}.partial"
    with partial.open("w", encoding="utf-8") as file:
        file.write(f"{body}# seal {hashlib.sha256(body.encode()).hexdigest()}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(store.path / SEAL)


def files(run: Path) -> list[str]:
    """The files that a seal covers, relative to the run's folder, in order of name."""
    inside = [
        path
        for folder in FOLDERS
        for path in (run / folder).rglob("*")
        if path.is_file() and path.parent.name != CACHE
    ]
    beside = [path for name in BESIDE if (path := run / name).is_file()]
    return sorted(name for path in inside + beside if (name := path.relative_to(run).as_posix()) not in LOCKS)


def is_sealed(run: Path) -> bool:
    """Whether a run has a seal, whatever it says."""
    return (run / SEAL).exists()


def remove(run: Path) -> None:
    """Takes the seal off, since the run is about to change."""
    (run / SEAL).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, DIGEST).hexdigest()
