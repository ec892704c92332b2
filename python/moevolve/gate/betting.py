"""The gate: is a candidate better than the champion, paired on the same fresh tasks, and worse at no skill?

A test by betting (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B
86, 2024, arXiv 2010.09686). With d = candidate's score - champion's score in [-1, 1] and a stake 0 < s < 1,
the capital

    K(s) = prod_i (1 + s * d_i)

is a non-negative supermartingale while the candidate is not better, so it exceeds 1/alpha at any time
whatever with probability at most alpha (Ville's inequality). The mean of K over a fixed grid of stakes is
one as well. Looking after every batch therefore costs nothing, and neither does stopping: an unpromoted
candidate can only lower the error. The same capital on -d judges "worse". ("Accept if better" promoted
30-42 % of changes that had no effect: arXiv 2606.08106.)

Design choices:

- Tasks come round-robin over skills, and a decision falls only at the end of a batch. Feed whole rounds:
  then the test is valid for "the mean over skills is not above 0" even though skills differ, because for
  independent d_k E prod(1 + s d_k) = prod(1 + s mu_k) <= (1 + s mean(mu))^K <= 1, the geometric mean being
  at most the arithmetic one.
- Capital depends on how often each d occurred and not on the order. At a given batch end the figures are
  the same however the tasks before were cut into batches.
- Harm to one skill is tested on its own tasks against "its mean is at least -margin", alpha shared between
  skills. That proof takes many tasks, so a promotion also waits while a skill has fewer than its even share
  of `min_n` tasks or is seen more than 1.5 * margin below. Waiting is not a veto: more tasks settle it.
- Futility: no promotion is in reach within `max_n` even at two standard errors above the rate seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from moevolve.errors import UsageError
from moevolve.records import Decision

STAKES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
"""The grid that capital is averaged over: small stakes find small gains, large ones gains without losses."""
HOLD = 1.5
"""A skill seen more than this many margins below the champion holds a promotion up."""
OPTIMISM = 2.0
"""Standard errors by which futility overrates what is still to come."""
PATIENCE = 0.25
"""Share of `max_n` before which nothing is called futile."""

Counts = dict[float, int]
"""Paired difference -> number of tasks."""


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate holds of a candidate so far; `decision` is None while it wants more tasks."""

    decision: Decision | None
    reason: str
    n: int
    wins: int
    losses: int
    gain: float
    """Mean paired difference, candidate minus champion."""
    evidence: float
    """Log of the e-value for "better"; a promotion needs at least log(1/alpha)."""
    against: float
    """Log of the e-value for "worse"."""
    skills: dict[str, float]
    """Mean paired difference of every skill seen."""
    vetoes: tuple[str, ...]
    """Skills harmed beyond the margin, or not shown unharmed when the budget ended a promising test."""


class PairedGate:
    """Paired comparison of a candidate with the champion, stopped as soon as it is decided.

    Args:
        alpha: bound on the probability that a candidate which is not better is promoted.
        margin: how much worse than the champion a skill may be, as a mean difference of scores.
        min_n: paired tasks in all before a promotion; every skill needs its even share of them.
        max_n: paired tasks in all after which an undecided candidate goes to the archive.
        skills: the skills that tasks come from.

    Raises:
        UsageError: a parameter out of its range.
    """

    def __init__(self, alpha: float, margin: float, min_n: int, max_n: int, skills: Sequence[str]) -> None:
        if not 0 < alpha < 1 or not 0 <= margin < 1 or not skills:
            raise UsageError("the gate needs 0 < alpha < 1, 0 <= margin < 1 and at least one skill")
        if not 1 <= min_n <= max_n:
            raise UsageError(f"gate: min_n must lie between 1 and max_n = {max_n}, not {min_n}")
        self.alpha = alpha
        self.margin = margin
        self.min_n = min_n
        self.max_n = max_n
        self.share = max(1, min_n // len(skills))
        self._counts: dict[str, Counts] = {skill: {} for skill in skills}
        self._verdict = self._judge()

    @property
    def verdict(self) -> GateVerdict:
        """What holds after the newest batch."""
        return self._verdict

    def update(self, batch: Iterable[tuple[str, float, float]]) -> None:
        """Takes a batch of (skill, candidate's score, champion's score) on the same tasks, and decides.

        Raises:
            UsageError: an unknown skill, a score outside of [0, 1], or a test that is over.
        """
        if self._verdict.decision is not None:
            raise UsageError("this gate has decided; a new comparison needs a new gate")
        for skill, candidate, champion in batch:
            if skill not in self._counts:
                raise UsageError(f"gate: skill {skill!r} is not one of {', '.join(self._counts)}")
            if not (0.0 <= candidate <= 1.0 and 0.0 <= champion <= 1.0):
                raise UsageError(f"gate: scores lie in [0, 1], not {candidate!r} and {champion!r} ({skill})")
            counts = self._counts[skill]
            difference = candidate - champion
            counts[difference] = counts.get(difference, 0) + 1
        self._verdict = self._judge()

    def give_up(self, reason: str) -> GateVerdict:
        """Ends an undecided test without a promotion: no more tasks will come."""
        if self._verdict.decision is None:
            self._verdict = msgspec.structs.replace(self._verdict, decision="archive", reason=reason)
        return self._verdict

    def _judge(self) -> GateVerdict:
        pooled = _pool(self._counts.values())
        evidence = log_capital(pooled, STAKES)
        against = log_capital(_mirrored(pooled), STAKES)
        harmed = tuple(skill for skill, counts in self._counts.items() if self._harmed(counts))
        decision, reason, vetoes = self._decide(pooled, evidence, against, harmed)
        return GateVerdict(
            decision=decision,
            reason=reason,
            n=_n(pooled),
            wins=sum(count for difference, count in pooled.items() if difference > 0),
            losses=sum(count for difference, count in pooled.items() if difference < 0),
            gain=_mean(pooled),
            evidence=evidence,
            against=against,
            skills={skill: _mean(counts) for skill, counts in self._counts.items() if counts},
            vetoes=vetoes,
        )

    def _decide(
        self, pooled: Counts, evidence: float, against: float, harmed: tuple[str, ...]
    ) -> tuple[Decision | None, str, tuple[str, ...]]:
        n = _n(pooled)
        proof = math.log(1 / self.alpha)
        if against >= proof:
            return "discard", f"worse than the champion ({_mean(pooled):+.3f} over {n} tasks)", harmed
        if harmed:
            return "archive", f"harms {', '.join(harmed)} by more than {self.margin:g}", harmed
        held = tuple(skill for skill, counts in self._counts.items() if self._holds(counts))
        few = n < self.min_n or any(_n(counts) < self.share for counts in self._counts.values())
        if evidence >= proof and not held and not few:
            return "promote", f"better than the champion ({_mean(pooled):+.3f} over {n} tasks)", ()
        if n >= self.max_n:
            if evidence >= proof:
                return (
                    "archive",
                    f"better, but {', '.join(held) or 'some skill'} not shown unharmed in {n} tasks",
                    held,
                )
            return "archive", f"no proof of a gain in {n} tasks", ()
        if (
            evidence < proof
            and n >= PATIENCE * self.max_n
            and not few
            and not self._within_reach(pooled, proof)
        ):
            return "archive", f"no gain within reach of {self.max_n} tasks, seen {n}", ()
        if evidence >= proof:
            return None, f"better; waiting for {', '.join(held) or 'enough tasks of every skill'}", ()
        return None, "undecided", ()

    def _harmed(self, counts: Counts) -> bool:
        """Whether a skill's own tasks prove its mean difference below -margin, at its share of alpha."""
        shifted = {-(difference + self.margin): count for difference, count in counts.items()}
        stakes = [stake / (1 + self.margin) for stake in STAKES]
        return log_capital(shifted, stakes) >= math.log(len(self._counts) / self.alpha)

    def _holds(self, counts: Counts) -> bool:
        return _n(counts) >= self.share and _mean(counts) < -HOLD * self.margin

    def _within_reach(self, pooled: Counts, proof: float) -> bool:
        """Whether some stake's capital could prove a gain by `max_n`, growing a little faster than so far."""
        n = _n(pooled)
        left = self.max_n - n
        for stake in STAKES:
            growth = {difference: math.log1p(stake * difference) for difference in pooled}
            rate = sum(growth[difference] * count for difference, count in pooled.items()) / n
            spread = sum((growth[difference] - rate) ** 2 * count for difference, count in pooled.items()) / n
            luck = OPTIMISM * math.sqrt(spread) * (math.sqrt(left) + left / math.sqrt(n))
            if rate * (n + left) + luck >= proof:
                return True
        return False


def log_capital(counts: Mapping[float, int], stakes: Sequence[float]) -> float:
    """Log of the mean over `stakes` of prod (1 + stake * d), where d came `counts[d]` times.

    Every stake * d must lie above -1.
    """
    ordered = sorted(counts.items())
    logs = [sum(count * math.log1p(stake * difference) for difference, count in ordered) for stake in stakes]
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


def _pool(parts: Iterable[Counts]) -> Counts:
    pooled: Counts = {}
    for counts in parts:
        for difference, count in counts.items():
            pooled[difference] = pooled.get(difference, 0) + count
    return pooled


def _mirrored(counts: Counts) -> Counts:
    return {-difference: count for difference, count in counts.items()}


def _n(counts: Counts) -> int:
    return sum(counts.values())


def _mean(counts: Counts) -> float:
    return (
        math.fsum(difference * count for difference, count in counts.items()) / n
        if (n := _n(counts))
        else 0.0
    )
