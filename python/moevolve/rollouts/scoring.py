"""Scores over a split: the mean success with its interval, by skill, and the level that is mastered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from moevolve.records import Interval, SkillScore
from moevolve.rollouts.attempts import Attempt, answered
from moevolve.skills.mastery import MASTERED


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate (E. B. Wilson, 1927). `n` verdicts, `successes` of them good."""
    if n == 0:
        return Interval(mean=0.0, low=0.0, high=1.0, n=0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    mean = successes / n
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return Interval(mean=mean, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)


def score(attempts: Sequence[Attempt]) -> tuple[Interval, dict[str, SkillScore]]:
    """The score of one evaluation, whole and by skill. Cells hold equally many tasks, so the mean weighs skills alike.

    What the policy left unanswered is no part of it.
    """
    attempts = answered(attempts)
    cells: dict[str, dict[int, list[float]]] = {}
    for attempt in attempts:
        levels = cells.setdefault(attempt.task.skill, {})
        levels.setdefault(attempt.task.level, []).append(attempt.verdict.score)
    skills = {}
    for path, levels in sorted(cells.items()):
        values = [value for level in sorted(levels) for value in levels[level]]
        mastered = 0
        for level in sorted(levels):
            if sum(levels[level]) / len(levels[level]) < MASTERED:
                break
            mastered = level
        skills[path] = SkillScore(score=sum(values) / len(values), n=len(values), level=mastered)
    return wilson(sum(attempt.verdict.score for attempt in attempts), len(attempts)), skills


def mean(attempts: Sequence[Attempt]) -> float:
    """The mean score of what was answered; 0 where nothing was."""
    found = answered(attempts)
    return sum(attempt.verdict.score for attempt in found) / len(found) if found else 0.0
