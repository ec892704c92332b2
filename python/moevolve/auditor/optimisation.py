"""Optimisation runs: verdicts in order, and decisions about better programs, made again from the scores on record.

A program with a better score than the champion is evaluated again. If all of its scores are equal, and the champion's as
well, the higher one wins. Otherwise a one-sided exact permutation test over the fresh scores of both sides promotes at the
decision's share of the run's error budget; the score that a program was found by is never among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.statistics import EVENNESS, share
from moevolve.records import Controlled, Improved, Rated, Record, RunStarted

NEAR = 1e-9


class Optimisation:
    """The verdicts and decisions of an optimisation run.

    Args:
        findings: takes what is wrong.

    Attributes:
        found: whether the run is one.
    """

    def __init__(self, findings: Findings) -> None:
        self.found = False
        self._findings = findings
        self._alpha = 0.0
        self._evaluations = 0
        self._planned: int | None = None
        self._stopped = False
        self._tests = 0
        self._promoted = 0
        self._first: dict[str, float | None] = {}
        self._fresh: dict[str, list[float]] = {}

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is whom it had before."""
        where = f"record {seq}"
        if isinstance(record, RunStarted):
            settings = _settings(record.config)
            self.found = settings is not None
            self._alpha = float((settings or {}).get("alpha", 0.0))
            self._planned = (settings or {}).get("evaluations")
        elif isinstance(record, Rated):
            self._rated(where, record)
        elif isinstance(record, Controlled):
            self._stopped = self._stopped or (record.command == "stop" and record.done)
        elif isinstance(record, Improved):
            self._improved(where, record, champion)

    def close(self, *, complete: bool) -> None:
        """Looks at the whole."""
        if complete and self._planned != self._evaluations and not self._stopped:
            self._findings.mismatch(
                "optimisation",
                "run",
                f"{self._evaluations} evaluations are on record, and {self._planned} were meant",
            )

    def _rated(self, where: str, record: Rated) -> None:
        if record.evaluation != self._evaluations:
            self._wrong(
                where, f"evaluation {record.evaluation} is on record, and {self._evaluations} was next"
            )
        self._evaluations += 1
        if (record.score is None) == (record.failure is None):
            self._wrong(where, f"{record.variant} has a score and a failure, or neither")
        if record.score is not None and not math.isfinite(record.score):
            self._wrong(where, f"the score of {record.variant} is {record.score}")
        if record.purpose == "candidate":
            if record.variant in self._first:
                self._wrong(where, f"{record.variant} is evaluated for the first time twice")
            self._first[record.variant] = record.score
            self._fresh[record.variant] = []
        elif record.variant not in self._first:
            self._wrong(where, f"{record.variant} is evaluated again and never was before")
        elif record.score is not None:
            self._fresh[record.variant].append(record.score)

    def _improved(self, where: str, record: Improved, champion: str) -> None:
        if record.champion != champion:
            self._wrong(
                where,
                f"{record.candidate} was compared with {record.champion}, and the champion was {champion}",
            )
        mine = self._fresh.get(record.candidate, [])
        its = self._fresh.get(champion, []) or [
            score for score in [self._first.get(champion)] if score is not None
        ]
        for side, told, found in (
            ("candidate", record.candidate_scores, mine),
            ("champion", record.champion_scores, its),
        ):
            if told != found:
                self._wrong(where, f"the {side}'s scores are {told} in the decision and {found} on record")
        scattered = any(
            score != self._first.get(name)
            for name in (record.candidate, champion)
            for score in self._fresh.get(name, [])
        )
        rule = "permutation" if scattered else "equal"
        if record.rule != rule:
            self._wrong(where, f"the rule is {record.rule} on record and {rule} by the scores")
        promote = bool(mine) and (not its or _mean(mine) > _mean(its))
        if scattered and its:
            alpha = share(self._alpha, self._tests - self._promoted, EVENNESS)
            p = _permutation(mine, its) if mine else 1.0
            for what, told_, found_ in (("alpha", record.alpha, alpha), ("p", record.p, p)):
                if told_ is None or abs(told_ - found_) > NEAR:
                    self._wrong(where, f"{what} is {told_} on record and {found_:.6g} recomputed")
            promote = p <= alpha and record.decision == "promote"
            self._tests += 1
            self._promoted += record.decision == "promote"
        if (record.decision == "promote") != promote:
            decision = "promote" if promote else "archive"
            self._wrong(
                where,
                f"{record.candidate}: {record.decision} is on record, and {decision} follows from the scores",
            )

    def _wrong(self, where: str, what: str) -> None:
        self._findings.mismatch("optimisation", where, what)


def _settings(config: str) -> Mapping[str, Any] | None:
    try:
        table = msgspec.json.decode(config)
    except msgspec.DecodeError:
        return None
    found = table.get("optimise") if isinstance(table, dict) else None
    return found if isinstance(found, dict) else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _permutation(candidate: Sequence[float], champion: Sequence[float]) -> float:
    """The share of all ways to deal the scores that favour the candidate as much."""
    pooled = [*candidate, *champion]
    bar = math.fsum(candidate) - NEAR * max(1.0, math.fsum(map(abs, pooled)))
    dealt = [math.fsum(chosen) >= bar for chosen in combinations(pooled, len(candidate))]
    return sum(dealt) / len(dealt)
