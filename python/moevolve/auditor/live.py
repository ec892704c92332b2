"""A run's file while a process may write it: who holds the writer's lock, and a copy that is one snapshot."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from moevolve.auditor.pages import DamagedPageError, PageFile
from moevolve.errors import StoreError

TRIES = 50

_FLOCK = struct.Struct("hhqqi4x")


def is_written(run: Path) -> bool:
    """Whether a process holds the writer's lock of a run."""
    try:
        descriptor = os.open(run / "journal" / "writer.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        asked = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack(asked)[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


@contextmanager
def snapshot(file: Path, *, written: bool) -> Iterator[Path]:
    """The file itself, or of one that is being written a copy between two commits.

    Raises:
        StoreError: the writer commits too fast for a copy.
    """
    if not written:
        yield file
        return
    with TemporaryDirectory(prefix="moevolve-audit-") as folder:
        copy = Path(folder) / file.name
        for _ in range(TRIES):
            before = _transaction(file)
            shutil.copyfile(file, copy)
            # A commit writes pages that no newest snapshot uses, and its meta page last.
            if before is not None and _transaction(file) == before:
                yield copy
                return
    raise StoreError(
        f"{file} changes faster than it can be copied: pause the run, or wait for a longer stage"
    )


def _transaction(file: Path) -> int | None:
    try:
        with PageFile(file) as pages:
            return pages.meta.txn
    except DamagedPageError:
        return None
