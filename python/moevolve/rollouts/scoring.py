"""Scores over a split: the mean success with its interval, whole and by skill."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from moevolve.journal.intervals import wilson
from moevolve.records import Interval, SkillScore
from moevolve.rollouts.attempts import Attempt, answered

MOST_MISSING = 0.03
"""Share of tasks without an answer above which a score or a comparison is void: whatever is left is no sample."""


def score(attempts: Sequence[Attempt]) -> tuple[Interval, dict[str, SkillScore]]:
    """The score of one evaluation, whole and by skill. Cells hold equally many tasks, so the mean weighs skills alike.

    What the policy left unanswered is no part of it.
    """
    attempts = answered(attempts)
    values: dict[str, list[float]] = {}
    for attempt in attempts:
        values.setdefault(attempt.task.skill, []).append(attempt.verdict.score)
    skills = {path: SkillScore(score=sum(of) / len(of), n=len(of)) for path, of in sorted(values.items())}
    return wilson(sum(attempt.verdict.score for attempt in attempts), len(attempts)), skills


def void(attempts: Sequence[Attempt]) -> bool:
    """Whether so many attempts have no answer that their score says nothing."""
    return len(attempts) - len(answered(attempts)) > MOST_MISSING * len(attempts)


def interval(attempts: Sequence[Attempt]) -> Interval | None:
    """The score alone; None where it is void or of nothing."""
    return score(attempts)[0] if attempts and not void(attempts) else None


class Comparison(msgspec.Struct, frozen=True):
    """A candidate beside another variant on the same tasks."""

    score: float
    baseline: float
    differences: list[float]
    """In order, of the tasks that one side at least had an answer for, each with its skill's weight: their mean is that of
    the skills' means."""
    missing: int
    """Tasks that neither had one for."""
    void: bool
    """Too many of them: the comparison says nothing."""


def compared(ours: Sequence[Attempt], theirs: Sequence[Attempt]) -> Comparison:
    """Compares task by task, skills alike however many tasks each has. A side that alone has no answer lost there: a
    candidate chooses what it asks, so it could pick the tasks on which a policy fails."""
    answers = [
        (mine.task.skill, mine.verdict.score, other.verdict.score)
        for mine, other in zip(ours, theirs, strict=True)
        if mine.answered or other.answered
    ]
    n, missing = max(1, len(answers)), len(ours) - len(answers)
    tasks = Counter(skill for skill, _, _ in answers)
    weight = {skill: n / (len(tasks) * count) for skill, count in tasks.items()}
    pairs = [(weight[skill] * mine, weight[skill] * other) for skill, mine, other in answers]
    return Comparison(
        score=math.fsum(mine for mine, _ in pairs) / n,
        baseline=math.fsum(other for _, other in pairs) / n,
        differences=[mine - other for mine, other in pairs],
        missing=missing,
        void=missing > MOST_MISSING * len(ours),
    )


def mean(attempts: Sequence[Attempt]) -> float:
    """The mean over skills of the mean score of what was answered; 0 where nothing was."""
    skills = score(attempts)[1].values()
    return math.fsum(share.score for share in skills) / len(skills) if skills else 0.0
