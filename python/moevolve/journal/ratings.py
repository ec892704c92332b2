"""Counts of an optimisation run: evaluations, failures by type, and the champions' scores."""

from __future__ import annotations

from array import array

from moevolve.journal.text import line
from moevolve.records import Improved, Rated


class Ratings:
    """What an evaluator said over a run; empty where a run has none."""

    def __init__(self) -> None:
        self.evaluations = 0
        self.rechecks = 0
        self.failures: dict[str, int] = {}
        self.first: float | None = None
        """The initial program's score; None before it is there, or where it failed."""
        self.champion: float | None = None
        """The champion's: the mean of its fresh scores."""
        self.noisy = False
        """Whether a program got two different scores."""
        self.promoted = 0
        self.decided = 0
        self.champions_at = array("q")
        self.champions = array("d")
        """The champion's score after each promotion, and the evaluation at which it was made."""

    def take(self, record: Rated, at: float) -> None:
        """Counts a verdict."""
        self.evaluations += 1
        self.rechecks += record.purpose == "recheck"
        if record.failure is not None:
            failure = line(record.failure)
            self.failures[failure] = self.failures.get(failure, 0) + 1
        elif record.evaluation == 0:
            self.first = record.score
            self._crown(0, record.score or 0.0)

    def decide(self, record: Improved) -> None:
        """Counts a decision."""
        self.decided += 1
        self.noisy = self.noisy or record.rule == "permutation"
        if record.decision == "promote" and record.candidate_scores:
            self.promoted += 1
            self._crown(record.evaluation, sum(record.candidate_scores) / len(record.candidate_scores))

    def _crown(self, evaluation: int, score: float) -> None:
        self.champion = score
        self.champions_at.append(evaluation)
        self.champions.append(score)
