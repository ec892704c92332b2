"""The one door to the sealed split: each access is counted, and on record before its tasks are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from moevolve.errors import SafetyError
from moevolve.loop.context import RunContext
from moevolve.records import SealedOpened
from moevolve.tasks.suite import Cell, Suite
from moevolve.tasks.task import Task


def open_sealed(run: RunContext, cycle: int, when: Literal["initial", "final"]) -> list[Task]:
    """The sealed tasks, the same at every access: one for the first score, and one for the last, of each extension too.

    Raises:
        SafetyError: a first score after another one.
    """
    if when == "initial" and _accesses(run):
        raise SafetyError("the sealed split has been opened for a first score before")
    seed, each = run.config.seed, run.config.suite.sealed_per_cell
    suite = run.suite.opened()
    tasks = suite.sample("sealed", suite.spread("sealed", each), seed, 0, "sealed")
    return _opened(run, cycle, when, tasks)


def open_grown(run: RunContext, cycle: int) -> list[Task]:
    """The sealed tasks of what the tree grew: an access of its own, after the last score."""
    suite = run.growing.suite.opened()
    cells = [cell for cell in run.growing.cells for _ in range(run.config.growth.sealed_per_cell)]
    return _opened(run, cycle, "growth", suite.sample("sealed", cells, run.config.seed, 0, "grown sealed"))


def open_held_out(run: RunContext, cycle: int, suite: Suite, cells: Sequence[Cell]) -> list[Task]:
    """Sealed tasks of what the run never worked on: an access for each column, after the last score.

    Args:
        run: the run.
        cycle: its last one.
        suite: what holds them, split as the run's own.
        cells: the (skill, level) of each task.
    """
    tasks = suite.opened().sample("sealed", cells, run.config.seed, 0, "generalise")
    return _opened(run, cycle, "generalise", tasks)


def _accesses(run: RunContext) -> int:
    """Accesses so far, counted on the record: the last one of a run comes after its last snapshot."""
    before = run.journal.store.records(0, run.journal.cursor)
    return sum(isinstance(record, SealedOpened) for _, record, _ in before)


def _opened(
    run: RunContext, cycle: int, when: Literal["initial", "final", "growth", "generalise"], tasks: list[Task]
) -> list[Task]:
    names = "\n".join(task.id for task in tasks)
    run.journal.write(
        [
            SealedOpened(
                cycle=cycle,
                count=1 + _accesses(run),
                variant=run.champion.id,
                when=when,
                tasks=len(tasks),
                digest=hashlib.blake2b(names.encode(), digest_size=16).hexdigest(),
            )
        ]
    )
    return tasks
