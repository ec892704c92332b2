"""Counts of an optimisation run: evaluations, failures by type, and the champions' scores."""

from __future__ import annotations

import math
from array import array

from moevolve.journal.averages import mean
from moevolve.journal.text import line
from moevolve.records import Improved, Null, NullSearched, Rated, RunStarted


def optimises(started: RunStarted | None) -> bool:
    """Whether a run is an optimisation run: an evaluator gives its programs numbers."""
    # Its configuration is one table of this name.
    return started is not None and '"optimise"' in started.config[:16]


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
        self.tested = 0
        """Decisions by a test that promoted nothing: each leaves the next one a smaller share of the error budget."""
        self.champions_at = array("q")
        self.champions = array("d")
        """The champion's score after each promotion, and the evaluation at which it was made."""
        self.decisions = array("q")
        """Sequence numbers of decisions about better programs."""
        self.fresh = 0
        """Evaluations that the champion's score is the mean of."""
        self.p: float | None = None
        """Of the test that promoted the champion: how often chance alone gives such a gain; None where there was none."""
        self.nulls: dict[Null, NullSearched] = {}
        """What nulls came to, at as many evaluations."""
        self._scores = array("d")
        self._places = array("q")
        """By a variant's row: its newest score, NaN where that evaluation failed, and the number of the record."""

    def take(self, record: Rated, row: int | None, seq: int) -> None:
        """Counts a verdict on the variant in a row, by the record of this number."""
        if row is not None:
            missing = row + 1 - len(self._scores)
            self._scores.extend([math.nan] * missing)
            self._places.extend([-1] * missing)
            self._scores[row] = math.nan if record.score is None else record.score
            self._places[row] = seq
        self.evaluations += 1
        self.rechecks += record.purpose == "recheck"
        if record.failure is not None:
            failure = line(record.failure)
            self.failures[failure] = self.failures.get(failure, 0) + 1
        elif record.evaluation == 0:
            self.first = record.score
            self._crown(0, record.score or 0.0, 1)

    def decide(self, record: Improved, seq: int) -> None:
        """Counts a decision, by the record of this number."""
        self.decided += 1
        self.tested += record.rule == "permutation" and record.decision != "promote"
        self.decisions.append(seq)
        self.noisy = self.noisy or record.rule == "permutation"
        if record.decision == "promote" and record.candidate_scores:
            self.promoted += 1
            self.p = record.p
            scores = record.candidate_scores
            self._crown(record.evaluation, mean(scores), len(scores))

    def score(self, row: int) -> float | None:
        """A variant's newest score; None where there is none."""
        known = row < len(self._scores) and not math.isnan(self._scores[row])
        return self._scores[row] if known else None

    def place(self, row: int) -> int | None:
        """Number of the record of a variant's newest evaluation; None before there is one."""
        return self._places[row] if row < len(self._places) and self._places[row] >= 0 else None

    def _crown(self, evaluation: int, score: float, fresh: int) -> None:
        self.champion, self.fresh = score, fresh
        self.champions_at.append(evaluation)
        self.champions.append(score)
