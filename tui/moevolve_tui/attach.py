"""Which runs to show: those that were named, or all under a folder; and why not, in one sentence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from moevolve.errors import MoevolveError, SchemaError, UsageError
from moevolve.journal.store import is_run, list_runs
from moevolve_tui.session import Session, open_run

_BEGINNING = {"journal", "weights", "program", "memory", "run.toml", "writer.lock", "estimate.json"}
"""What a run folder may hold before its journal does."""
_YOUNG_SECONDS = 3.0


def session_of(paths: Sequence[Path], runs: Path, *, wait: bool) -> Session:
    """The session over what was named.

    Args:
        paths: folders of runs, or of several; none for all under `runs`.
        runs: where runs lie by default. It need not exist: the screens offer to start one.
        wait: whether a folder that does not exist yet is waited for.

    Raises:
        UsageError: there is nothing to show and nothing that could become a run.
        SchemaError: a newer version of Moevolve wrote the folder.
    """
    if not paths:
        session = Session(roots=[runs])
        session.scan()
        return session
    named, roots = [], []
    for path in paths:
        if path.is_dir() and not is_run(path) and not beginning(path):
            try:
                below = list_runs(path)
            except MoevolveError:
                below = []
            if below:
                roots.append(path)
                continue
        _usable(path, wait)
        named.append(path)
    beside = [path.absolute().parent for path in named]
    session = Session(named, [*roots, *dict.fromkeys(beside)] if len(paths) == 1 else roots)
    if roots:
        session.scan()
    return session


def _usable(path: Path, wait: bool) -> None:
    if path.is_dir():
        if not beginning(path):
            _try(path)
    elif path.exists():
        raise UsageError(f"{path} is a file: name the folder of a run, such as one that `moevolve ls` lists")
    elif not wait:
        raise UsageError(
            f"there is no folder {path}: `moevolve ls` lists the runs, "
            f"and `moevolve watch --wait {path}` waits for one"
        )


def beginning(path: Path) -> bool:
    """Whether `path` is a folder in which a run may be about to start: empty, or without a journal yet."""
    try:
        names = {item.name for item in path.iterdir()}
        return names <= _BEGINNING and _size(path / "journal" / "data.mdb") == 0
    except OSError:
        return False


def _try(path: Path) -> None:
    """Opens the run once. A journal made only now may not be whole yet: it is tried again later."""
    try:
        open_run(path).close()
    except SchemaError:
        raise
    except MoevolveError:
        if time.time() - _written(path) > _YOUNG_SECONDS:
            raise


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _written(run: Path) -> float:
    try:
        return (run / "journal" / "data.mdb").stat().st_mtime
    except OSError:
        return 0.0
