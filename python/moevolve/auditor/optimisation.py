"""Optimisation runs: verdicts in order, and decisions about better programs, made again from the scores on record.

A program with a better score than the champion is evaluated again, and so is the champion. While no program of the run had
two scores, the higher one wins. Otherwise a one-sided exact permutation test over the first fresh scores of both sides
promotes at the decision's share of the run's error budget; the score that a program was found by is never among them. A test
takes `fresh` scores of each side, and as many more, up to twelve, as its least p-value needs to be half of that share. Older
versions took `fresh` always (`decisions` = 2); before, they looked at the two programs alone (`decisions` = 1), and at no
champion twice before a promotion.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.statistics import EVENNESS, share
from moevolve.records import Controlled, Improved, NullSearched, Rated, Record, RunStarted

NEAR = 1e-9
TIED, ROUNDED = 1e-12, 0.02
"""Sums of dealt scores that differ by this share of all scores' size are equal by the rule; rounding moves that bar by no
more than the second share of it."""
LARGE, SMALL = 1e300, 2.0**-64
"""Scores beyond which sums may have no number, and what makes them small without rounding."""
TRIES = 3
"""Further evaluations of a champion that failed in a row, after which it is taken as it is."""
MOST_FRESH = 12
"""Fresh scores of each side that settings allow."""
NULLS = ("best_of", "random_search")
"""Nulls of a search: as many children of the first program alone, or of any."""
MOST_WAYS = 20_000_000
"""Ways to deal scores that are gone through, some seconds' worth: older versions took all scores there were."""


class Optimisation:
    """The verdicts and decisions of an optimisation run.

    Args:
        findings: takes what is wrong.

    Attributes:
        found: whether the run is one.
        started: its first record.
        evaluations: how many are on record.
        failed: of them.
        nulls: what nulls of its search came to, by name.
    """

    def __init__(self, findings: Findings) -> None:
        self.found = False
        self.started: RunStarted | None = None
        self.evaluations = 0
        self.failed = 0
        self.nulls: dict[str, NullSearched] = {}
        self._wanted: tuple[str, ...] = ()
        """Nulls that the run asks for."""
        self._findings = findings
        self._alpha = 0.0
        self._planned: int | None = None
        self._stopped = False
        self._tests = 0
        self._promoted = 0
        self._first: dict[str, float | None] = {}
        self._fresh: dict[str, list[float]] = {}
        self._failed: dict[str, int] = {}
        """Further evaluations that failed since the last one that did not, or since a decision."""
        self._older = False
        self._sized = False
        """Whether the share says how many scores a test takes."""
        self._few = 0
        """Fresh scores of each side that decide, at least."""
        self._scattered = False
        """Whether a program of the run had two scores."""

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is whom it had before."""
        where = f"record {seq}"
        if isinstance(record, RunStarted):
            settings = settings_of(record.config)
            self.found, self.started = settings is not None, record
            self._wanted = NULLS if (settings or {}).get("nulls") == "on" else ()
            self._alpha = float((settings or {}).get("alpha", 0.0))
            self._planned = (settings or {}).get("evaluations")
            self._older = (settings or {}).get("decisions", 1) == 1
            self._sized = (settings or {}).get("decisions", 1) == 3
            fresh = (settings or {}).get("fresh", 0)
            self._few = fresh if isinstance(fresh, int) and 0 < fresh <= MOST_FRESH else MOST_FRESH
        elif isinstance(record, Rated):
            self._rated(where, record)
        elif isinstance(record, Controlled):
            self._stopped = self._stopped or (record.command == "stop" and record.done)
        elif isinstance(record, Improved):
            self._improved(where, record, champion)
        elif isinstance(record, NullSearched):
            if record.null in self.nulls or record.null not in self._wanted:
                self._wrong(where, f"null {record.null} was not asked for, or is on record twice")
            if self._planned != self.evaluations:
                self._wrong(where, f"null {record.null} is on record before the last evaluation")
            self.nulls[record.null] = record

    def score(self, variant: str) -> float | None:
        """A program's score: the mean of its fresh ones, else the first; None where it has none."""
        fresh = self._fresh.get(variant, [])
        return _mean(fresh) if fresh else self._first.get(variant)

    def close(self, *, complete: bool) -> None:
        """Looks at the whole."""
        if complete and self._planned != self.evaluations and not self._stopped:
            self._findings.mismatch(
                "optimisation",
                "run",
                f"{self.evaluations} evaluations are on record, and {self._planned} were meant",
            )
        if complete and not self._stopped:
            for name in self._wanted:
                if name not in self.nulls:
                    self._wrong("run", f"null {name} was asked for, and is not on record")

    def _rated(self, where: str, record: Rated) -> None:
        if record.evaluation != self.evaluations:
            self._wrong(
                where, f"evaluation {record.evaluation} is on record, and {self.evaluations} was next"
            )
        self.evaluations += 1
        self.failed += record.failure is not None
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
            self._failed[record.variant] = 0
            first = self._first[record.variant]
            self._scattered = self._scattered or (first is not None and record.score != first)
        else:
            self._failed[record.variant] = self._failed.get(record.variant, 0) + 1

    def _improved(self, where: str, record: Improved, champion: str) -> None:
        if record.champion != champion:
            self._wrong(
                where,
                f"{record.candidate} was compared with {record.champion}, and the champion was {champion}",
            )
        alpha = share(self._alpha, self._tests - self._promoted, EVENNESS)
        most = self._scores(alpha)
        few = None if self._older else most
        mine = self._fresh.get(record.candidate, [])[:few]
        first = self._first.get(champion)
        its = self._fresh.get(champion, [])[:few] or ([] if first is None else [first])
        for side, told, found in (
            ("candidate", record.candidate_scores, mine),
            ("champion", record.champion_scores, its),
        ):
            if told != found:
                self._wrong(where, f"the {side}'s scores are {told} in the decision and {found} on record")
        scattered = self._differ(record.candidate, champion) if self._older else self._scattered
        rule = "permutation" if scattered else "equal"
        if record.rule != rule:
            self._wrong(where, f"the rule is {record.rule} on record and {rule} by the scores")
        whole = len(mine) == most and (len(its) == most or self._failed.get(champion, 0) >= TRIES)
        if not self._older:
            self._looked(where, record, champion, most if self._scattered else 1)
        promote = bool(mine) and (not its or _mean(mine) > _mean(its))
        if scattered and its:
            self._tests += 1
            self._promoted += record.decision == "promote"
            if math.comb(len(mine) + len(its), len(mine)) > MOST_WAYS:
                text = f"{len(mine)} scores against {len(its)} are too many to deal: its p-value was not recomputed"
                self._findings.note("optimisation", where, text)
                return
            low, high = _permutation(mine, its) if mine else (1.0, 1.0)
            for what, told_, least_, most_ in (
                ("alpha", record.alpha, alpha, alpha),
                ("p", record.p, low, high),
            ):
                if told_ is None or not least_ - NEAR <= told_ <= most_ + NEAR:
                    self._wrong(where, f"{what} is {told_} on record and {most_:.6g} recomputed")
            p = high if record.p is None else min(max(record.p, low), high)
            # Older versions archived programs that a smaller test would have promoted.
            promote = p <= alpha and (whole if self._sized else record.decision == "promote")
        if (record.decision == "promote") != promote:
            decision = "promote" if promote else "archive"
            self._wrong(
                where,
                f"{record.candidate}: {record.decision} is on record, and {decision} follows from the scores",
            )

    def _differ(self, *names: str) -> bool:
        """Whether one of these programs had two scores."""
        return any(score != self._first.get(name) for name in names for score in self._fresh.get(name, []))

    def _scores(self, alpha: float) -> int:
        """Scores of each side that a test with this share takes."""
        few = self._few
        while self._sized and few < MOST_FRESH and 1 / math.comb(2 * few, few) > alpha / 2:
            few += 1
        return few

    def _looked(self, where: str, record: Improved, champion: str, least: int) -> None:
        """Whether a promotion rests on as many scores as it takes."""
        if record.decision == "promote" and self._first.get(champion) is not None:
            for name in (record.candidate, champion):
                scores = len(self._fresh.get(name, []))
                if scores < least and (name != champion or self._failed.get(name, 0) < TRIES):
                    self._wrong(
                        where, f"{name} was evaluated {scores} times more, and a promotion takes {least} here"
                    )
        for name in (record.candidate, champion):
            self._failed[name] = 0

    def _wrong(self, where: str, what: str) -> None:
        self._findings.mismatch("optimisation", where, what)


def settings_of(config: str) -> Mapping[str, Any] | None:
    try:
        table = msgspec.json.decode(config)
    except msgspec.DecodeError:
        return None
    found = table.get("optimise") if isinstance(table, dict) else None
    return found if isinstance(found, dict) else None


def searches_alike(one: RunStarted, null: RunStarted, name: str) -> bool:
    """Whether a null has the run's evaluator, first program and settings, but for who chooses parents."""
    ours, theirs = (dict(settings_of(each.config) or {}) for each in (one, null))
    ours |= {"null": name, "nulls": "off", "selection": "random", "population": 0}
    same = (one.seed, one.program, one.grader) == (null.seed, null.program, null.grader)
    return same and ours == theirs


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value * SMALL for value in values) / len(values) / SMALL


def _permutation(candidate: Sequence[float], champion: Sequence[float]) -> tuple[float, float]:
    """The share of all ways to deal the scores that favour the candidate as much: the least and the most that rounding
    leaves, which differ only where a way lies at the very bar."""
    pooled = [*candidate, *champion]
    if max(map(abs, pooled)) > LARGE:
        candidate, pooled = [each * SMALL for each in candidate], [each * SMALL for each in pooled]
    reached, slack = math.fsum(candidate), TIED * math.fsum(map(abs, pooled))
    bars = reached - slack * (1 - ROUNDED), reached - slack * (1 + ROUNDED)
    # One half of the scores deals its part in every way, and each other half's part that goes with it is looked up.
    first, second = pooled[::2], pooled[1::2]
    dealt = [0, 0]
    for count in range(len(candidate) + 1):
        others = sorted(map(math.fsum, combinations(second, len(candidate) - count)))
        for chosen in combinations(first, count):
            part = math.fsum(chosen)
            for side, bar in enumerate(bars):
                dealt[side] += len(others) - bisect.bisect_left(others, bar - part)
    ways = math.comb(len(pooled), len(candidate))
    return dealt[0] / ways, dealt[1] / ways
