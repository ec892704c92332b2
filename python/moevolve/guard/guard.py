"""A guard: a rule beside the gate's statistics, which looks at what the score cannot say.

Each check is a record (`Guarded`), the attempts that caused an alarm with it. A guard is a function of the run's seed and of
what it is shown: it does the same again in a run that goes on, or is done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from moevolve.config import Config
from moevolve.guard.evidence import AlarmBudget
from moevolve.guard.trend import Block
from moevolve.journal.archive import Variant
from moevolve.journal.text import line
from moevolve.records import Guarded, Suspect
from moevolve.rollouts.attempts import Attempt, Rollouts
from moevolve.rollouts.grading import Grader
from moevolve.rollouts.runner import Stage
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

MOST_SUSPECTS = 8
"""Attempts of an alarm that are put on record."""
MOST_CHARACTERS = 240
"""Of one of their texts."""


class GuardMemory(msgspec.Struct, kw_only=True):
    """What guards remember between two cycles, part of the snapshot."""

    checks: dict[str, int] = {}
    """Guard -> checks so far that could have raised an alarm."""
    rates: dict[str, dict[str, list[Block]]] = {}
    """Guard -> name of a rate -> (successes, tries) of every cycle, oldest first."""

    def add(self, guard: str, rates: dict[str, Block]) -> dict[str, list[Block]]:
        """Adds a cycle's rates; returns all of them."""
        known = self.rates.setdefault(guard, {})
        for name, block in rates.items():
            known.setdefault(name, []).append(block)
        return known


class Watched(Protocol):
    """What guards see of a run."""

    config: Config
    suite: Suite
    skills: list[str]

    @property
    def memory(self) -> GuardMemory: ...

    def attempts(
        self, variants: Sequence[Variant], tasks: Sequence[Task], stage: Stage, grader: Grader | None
    ) -> list[Rollouts]:
        """One attempt on every task through each variant's program, with the same random numbers for all.

        `grader` is None for the suite's own.
        """
        ...


class Promotion(msgspec.Struct, frozen=True):
    """A candidate that has passed the gate."""

    cycle: int
    candidate: Variant
    champion: Variant


class CycleEnd(msgspec.Struct, frozen=True):
    """The champion at the end of a cycle; cycle 0 is the run's start."""

    cycle: int
    champion: Variant
    dev: Sequence[Attempt]
    """Its attempts on the cycle's dev tasks."""


class Guard(Protocol):
    """A rule that may veto a promotion, or raise an alarm at the end of a cycle."""

    name: str

    def promotion(self, case: Promotion) -> Guarded | None:
        """What it holds of a candidate; None where that is not its business."""
        ...

    def cycle(self, end: CycleEnd) -> Guarded | None:
        """What it holds of the run after a cycle; None where that is not its business."""
        ...


def share(config: Config) -> float:
    """Error rate of one guard: that of all, evenly shared between those that are on; one more where the tree grows."""
    return config.guard.alpha / max(1, len(config.guard.use) + config.growth.on)


def budget(watched: Watched, guard: str) -> AlarmBudget:
    """The error budget of a guard's next check."""
    return AlarmBudget(alpha=share(watched.config), checks=watched.memory.checks.get(guard, 0))


def checked(watched: Watched, guard: str) -> None:
    """Counts a check that could have raised an alarm."""
    watched.memory.checks[guard] = watched.memory.checks.get(guard, 0) + 1


def suspects(attempts: Sequence[tuple[str, Attempt]]) -> list[Suspect]:
    """Attempts for the record, by what they are called: a few, and the beginnings of their texts."""
    return [
        Suspect(
            task=line(name),
            prompt=attempt.task.prompt[:MOST_CHARACTERS],
            answer=attempt.answer[:MOST_CHARACTERS],
        )
        for name, attempt in attempts[:MOST_SUSPECTS]
    ]
