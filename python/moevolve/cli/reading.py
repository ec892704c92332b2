"""Runs as commands name them: a folder, and a message that helps where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moevolve.config import nearest
from moevolve.errors import UsageError
from moevolve.journal.reader import RunReader, read
from moevolve.journal.store import RunStore, list_runs
from moevolve.records import VariantAdded
from moevolve.report.summary import Summary, summarise

RUNS = Path("runs")
"""Where runs lie unless a command says otherwise."""


def store_at(path: Path) -> RunStore:
    """A run, open for reading.

    Raises:
        UsageError: no run there; names the nearest.
    """
    if not path.is_dir():
        siblings = [str(run) for run in list_runs(path.parent)] if path.parent.is_dir() else []
        raise UsageError(f"there is no run in {path}{nearest(str(path), siblings)}: `moevolve ls` lists runs")
    return RunStore.open(path)


@contextmanager
def opened(path: Path) -> Iterator[RunStore]:
    """A run that holds records, open for reading.

    Raises:
        UsageError: no run there, or nothing recorded yet.
    """
    with store_at(path) as store:
        if not len(store):
            raise UsageError(
                f"{path} holds no record yet: its run has only begun, or ended before it recorded anything"
            )
        yield store


@contextmanager
def followed(path: Path) -> Iterator[tuple[RunReader, Summary]]:
    """A run's view and its figures, with the store open for more.

    Raises:
        UsageError: no run there, or nothing recorded yet.
    """
    with opened(path) as store:
        reader = read(store)
        yield reader, summarise(reader, store.head(), store.sandbox())


def summary_at(path: Path) -> Summary:
    """A run's figures.

    Raises:
        UsageError: no run there, or nothing recorded yet.
    """
    with followed(path) as (_, summary):
        return summary


def variant_of(name: str, reader: RunReader, run: Path) -> VariantAdded:
    """A variant by its name, or `seed` or `champion`.

    Raises:
        UsageError: the run has none; names the nearest.
    """
    variants = reader.view.variants
    row = 0 if name == "seed" else variants.row(reader.view.champion if name == "champion" else name)
    if row is None or row >= len(variants):
        names = [variants.name(row) for row in range(len(variants))]
        raise UsageError(
            f"{run} has no variant `{name}`{nearest(name, names)}: it has {len(variants)}, "
            f"and `seed` and `champion` name two of them"
        )
    return reader.variant(row)
