"""Scores over a split: the mean success with its interval, whole and by skill."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.journal.intervals import wilson
from moevolve.records import Interval, SkillScore
from moevolve.rollouts.attempts import Attempt, answered


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


def mean(attempts: Sequence[Attempt]) -> float:
    """The mean score of what was answered; 0 where nothing was."""
    found = answered(attempts)
    return sum(attempt.verdict.score for attempt in found) / len(found) if found else 0.0
