"""Attempts: what became of a variant on tasks, as the grader sees it, and their tallies by skill and level."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.protocol.requests import SILENT, Exchange, Note
from moevolve.protocol.rollouts import Part
from moevolve.records import Tally
from moevolve.tasks.task import Task, Verdict


class Attempt(msgspec.Struct, frozen=True):
    """One execution on one task, with its verdict. `answer` is what was graded."""

    task: Task
    answer: str
    verdict: Verdict
    trace: tuple[tuple[str, str], ...] = ()
    """What its program asked, and what it was told, where that was wanted (`parts`)."""
    recalled: tuple[tuple[str, ...], ...] = ()
    """Ids of the lessons that each of its recalls returned, best first."""
    notes: tuple[Note, ...] = ()
    """What its program gave memory."""

    @property
    def answered(self) -> bool:
        """Whether policy and machine did their part; an attempt that they left unanswered has no score that could count."""
        return self.verdict.failure not in SILENT


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts took, and how many answers a guard has looked at."""

    tokens: int = 0
    """Drawn by the policy."""
    checked: int = 0
    """Attempts by plans; see `RolloutResult`."""
    vetoed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            tokens=self.tokens + other.tokens,
            checked=self.checked + other.checked,
            vetoed=self.vetoed + other.vetoed,
        )


class Rollouts(msgspec.Struct, frozen=True):
    """Graded attempts of one variant, in the order of the tasks."""

    attempts: list[Attempt]
    counts: Counts
    parts: list[list[Part]] = []
    """By task, where they were wanted: what a program asked for once each, with the answers."""
    exchanges: list[list[Exchange]] | None = None
    """By task, where parts were wanted of a program that computes: whatever it asked, with what the policy drew."""


def answered(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts whose verdicts say something about the variant."""
    return [attempt for attempt in attempts if attempt.answered]


def tally(attempts: Sequence[Attempt]) -> list[Tally]:
    """Counts attempts by (skill, level) and outcome, in the order of skill and level."""
    cells: dict[tuple[str, int], list[Verdict]] = {}
    for attempt in attempts:
        cells.setdefault((attempt.task.skill, attempt.task.level), []).append(attempt.verdict)
    tallies = []
    for (skill, level), verdicts in sorted(cells.items()):
        failures: dict[str, int] = {}
        for verdict in verdicts:
            if verdict.failure is not None:
                failures[verdict.failure] = failures.get(verdict.failure, 0) + 1
        tallies.append(
            Tally(
                skill=skill,
                level=level,
                attempts=len(verdicts),
                successes=sum(verdict.success for verdict in verdicts),
                failures=dict(sorted(failures.items())),
            )
        )
    return tallies
