"""Paired attempts for the gate: only tasks that both variants had an answer for, in whole rounds of skills."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from moevolve.rollouts.attempts import Attempt

Pair = tuple[str, float, float]
"""(skill, candidate's score, champion's score) on one task."""


class Pairs:
    """Holds pairs back until every skill has one: the gate's test wants each skill equally often.

    Args:
        skills: the skills that tasks come from.
    """

    def __init__(self, skills: Sequence[str]) -> None:
        self._waiting: dict[str, deque[Pair]] = {skill: deque() for skill in skills}
        self.unanswered = 0
        """Tasks left out because the policy did not answer one of the two."""

    def take(self, candidate: Sequence[Attempt], champion: Sequence[Attempt]) -> list[Pair]:
        """Adds the attempts of one batch, task by task; returns the whole rounds that are ready."""
        for ours, theirs in zip(candidate, champion, strict=True):
            if ours.answered and theirs.answered:
                skill = ours.task.skill
                self._waiting[skill].append((skill, ours.verdict.score, theirs.verdict.score))
            else:
                self.unanswered += 1
        rounds = min(map(len, self._waiting.values()))
        return [waiting.popleft() for _ in range(rounds) for waiting in self._waiting.values()]
