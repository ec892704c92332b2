"""Which run to watch: the folder that was named, or the newest one; and why not, in one sentence."""

import time
from collections.abc import Callable
from pathlib import Path

from moevolve.errors import MoevolveError, SchemaError, UsageError
from moevolve.journal.store import RunStore, list_runs

_BEGINNING = {"journal", "weights", "program", "run.toml", "writer.lock"}
"""What a run folder may hold before its journal does."""
_YOUNG_SECONDS = 3.0


def open_run(path: Path) -> RunStore:
    """The run in `path`, for reading."""
    return RunStore.open(path)


def locate(path: Path | None, runs: Path, *, wait: bool) -> Callable[[], Path | None]:
    """A function that gives the run's folder as soon as there is one.

    Raises:
        UsageError: there is nothing to watch and nothing that could become a run.
        SchemaError: a newer version of Moevolve wrote the folder.
    """
    if path is None:
        if newest_run(runs) is None and not (wait or runs.is_dir()):
            raise UsageError(
                f"no run under {runs}/: start one with `moevolve run quickstart`, or name its folder"
            )
        return lambda: newest_run(runs)
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
    return lambda: None if not path.is_dir() or beginning(path) else path


def beginning(path: Path) -> bool:
    """Whether `path` is a folder in which a run may be about to start: empty, or without a journal yet."""
    try:
        names = {item.name for item in path.iterdir()}
        return names <= _BEGINNING and _size(path / "journal" / "data.mdb") == 0
    except OSError:
        return False


def _try(path: Path) -> None:
    """Opens the run once. A journal made only now may not be whole yet: the reader tries that one again."""
    try:
        with open_run(path):
            pass
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


def newest_run(root: Path) -> Path | None:
    """The run under `root` whose journal was written last."""
    try:
        found = list_runs(root) if root.is_dir() else []
    except (MoevolveError, OSError):
        return None
    return max(found, key=_written, default=None)


def _written(run: Path) -> float:
    try:
        return (run / "journal" / "data.mdb").stat().st_mtime
    except OSError:
        return 0.0
