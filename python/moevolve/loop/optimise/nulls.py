"""Nulls of an optimisation run: what as many evaluations come to without its search, in runs of their own inside its folder.

Both have the run's evaluator, proposers, seed and rule of who becomes champion. A proposer sees the parent alone: no better
program, no failure. `best_of`: every program is a child of the first one, so that its champion is the best of N.
`random_search`: of any program, whatever its score.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from moevolve.journal.ratings import Ratings
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore, is_run
from moevolve.loop.optimise.settings import Settings
from moevolve.records import Null, NullSearched

FOLDER = "nulls"
"""Where their runs lie inside the run's folder, each under its name."""
NAMES: tuple[Null, ...] = ("best_of", "random_search")


def settings_of(settings: Settings, name: Null) -> Settings:
    """A null's settings: the run's, whatever chooses parents, and with all programs kept."""
    return msgspec.structs.replace(settings, null=name, nulls="off", selection="random", population=0)


def folder(run: Path, name: Null) -> Path:
    """The folder of a null's run."""
    return run / FOLDER / name


def searched(run: Path, name: Null) -> NullSearched:
    """The record of a null whose run has ended."""
    with RunStore.open(folder(run, name)) as store:
        view, head = read(store).view, store.head()
    return NullSearched(
        null=name,
        head=head,
        evaluations=view.ratings.evaluations,
        failed=sum(view.ratings.failures.values()),
        champion=view.champion,
        score=_score(view.ratings),
    )


def _score(ratings: Ratings) -> float | None:
    """The champion's; None where no program has one."""
    return None if ratings.first is None and not ratings.promoted else ratings.champion


def _begun(out: Path) -> bool:
    """Whether a record of it is on file."""
    if not is_run(out):
        return False
    with RunStore.open(out) as store:
        return len(store) > 0


def search(
    run: Path,
    name: Null,
    start: Callable[[Path], object],
    resume: Callable[[RunStore], object],
) -> NullSearched | None:
    """Starts a null's run or goes on with it; returns its record, None where a person interrupts it."""
    out = folder(run, name)
    if _begun(out):
        with RunStore.open(out, write=True) as store:
            resume(store)
    else:
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(exist_ok=True)
        start(out)
    with RunStore.open(out) as store:
        ended = read(store).view.finished
    return searched(run, name) if ended else None
