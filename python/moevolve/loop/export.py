"""A variant of a run as files of its own: its weights as a model, its program as a folder, both levels' description."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from moevolve.agents.genome import Genome
from moevolve.errors import StoreError, UsageError
from moevolve.journal.store import RunStore
from moevolve.models.champions import Champion, Champions
from moevolve.models.engine import Engine

MANIFEST = "agent.toml"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Files of a model's folder that must not outlive the model."""


def export_weights(
    store: RunStore, champion: Champion, out: Path, *, dtype: str | None = None, force: bool = False
) -> list[str]:
    """Writes a variant's model, an adapter merged into it; returns the files' names.

    Args:
        store: the run, open for reading.
        champion: the variant.
        out: a folder for transformers, or a file for llama.cpp where the name ends in `.gguf`.
        dtype: as of `Engine.save`.
        force: replace what is there.

    Raises:
        UsageError: something is there, or the run's policy is an endpoint, or the format does not fit.
        CheckpointError: the model cannot be written.
    """
    champions = Champions(store, Engine)
    with _fresh(store, out, force) as partial:
        model = champions.engine(champions.base(), champion)
        model.save(partial, dtype=dtype)
    return _names(out)


def export_program(
    store: RunStore,
    genome: Genome,
    out: Path,
    *,
    described: Callable[[], str] | None = None,
    force: bool = False,
) -> list[str]:
    """Writes a program's files into a folder; returns their names.

    Args:
        store: the run, open for reading.
        genome: the program.
        out: the folder.
        described: gives `agent.toml` where the program has none of its own; None writes none.
        force: replace files of the same names; others stay.

    Raises:
        UsageError: something is there.
        StoreError: the run names a file that lies in no folder of the program's.
    """
    files = dict(genome.files)
    for path in map(PurePosixPath, files):
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise StoreError(
                f"a program of {store.path} has a file {str(path)!r}, which is outside of its folder"
            )
    if described is not None and MANIFEST not in files:
        files[MANIFEST] = described()
    with _fresh(store, out, force) as partial:
        for name, text in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8", newline="")
    return sorted(files)


@contextmanager
def _fresh(store: RunStore, out: Path, force: bool) -> Iterator[Path]:
    """A path beside `out` whose content takes its place at the end, whole or not at all.

    Raises:
        UsageError: `out` holds something, or lies in the run's own folder.
    """
    whole = out.resolve()
    if whole.is_relative_to(store.path.resolve()):
        raise UsageError(f"{out} lies in the run's own folder, which stays as it is: export to another place")
    there = whole.exists() and not (whole.is_dir() and not any(whole.iterdir()))
    if there and not force:
        raise UsageError(f"{out} is there already: name another place, or replace it with --force")
    whole.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=f".{whole.name[:64]}-", dir=whole.parent)) / whole.name
    try:
        yield partial
        if partial.is_dir() and whole.is_dir():
            _merge(partial, whole)
        elif there and partial.is_dir() != whole.is_dir():
            kinds = ("a file", "a folder") if partial.is_dir() else ("a folder", "a file")
            raise UsageError(f"{out} is {kinds[0]}, and {kinds[1]} is to be written: name another place")
        else:
            if whole.is_dir():
                whole.rmdir()
            partial.replace(whole)
    finally:
        shutil.rmtree(partial.parent, ignore_errors=True)


def _merge(new: Path, old: Path) -> None:
    """Moves files over those of the same names; no weights of an older model stay that a reader could take for the new."""
    names = _names(new)
    if any(name.endswith(".safetensors") for name in names):
        for stale in (path for pattern in _WEIGHTS for path in old.glob(pattern) if path.name not in names):
            stale.unlink()
    for name in names:
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(old / name)


def _names(path: Path) -> list[str]:
    """The files at a path, relative to it where it is a folder."""
    if not path.is_dir():
        return [path.name]
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
