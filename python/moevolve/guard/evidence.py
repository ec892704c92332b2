"""How surprising a check is, and how surprising it must be to count: a guard's error budget, and exact tails."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from moevolve.gate.spending import AlphaSpending

REACH = 8.0
"""Standard deviations beyond which terms of a mean over the hypergeometric are left out: it gets smaller, if anything."""


class AlarmBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A guard's error rate, shared out over its checks as the gate's is over its decisions.

    P(any alarm of an honest run) <= `alpha`, over however many checks: the shares sum to at most 1.
    """

    alpha: float
    checks: int = 0
    """Checks so far."""

    @property
    def level(self) -> float:
        """Error rate of the next check."""
        return AlphaSpending(alpha=self.alpha, decisions=self.checks).level

    @property
    def proof(self) -> float:
        """Log of an e-value, or of 1/p, from which on the next check is an alarm."""
        return math.log(1 / self.level)


def log_binomial(n: int, rate: float, least: int) -> float:
    """Log of 1/p, p the probability of `least` or more successes in `n` tries at `rate`."""
    if least <= 0 or rate >= 1:
        return 0.0
    if least > n or rate <= 0:
        return math.inf
    return -_log_sum(
        log_choose(n, k) + k * math.log(rate) + (n - k) * math.log1p(-rate) for k in range(least, n + 1)
    )


def log_fisher(ours: int, theirs: int, n: int) -> float:
    """Log of 1/p, p the probability that of `ours + theirs` successes so many fall to us, in `n` tries each, by chance.

    Fisher's exact test, one-sided. Tries in pairs on the same tasks make it more careful, not less.
    """
    marked = ours + theirs
    if ours <= 0 or not n:
        return 0.0
    whole = log_choose(2 * n, n)
    return -_log_sum(
        log_choose(marked, k) + log_choose(2 * n - marked, n - k) - whole
        for k in range(ours, min(marked, n) + 1)
    )


def hypergeometric(total: int, marked: int, drawn: int) -> Iterator[tuple[int, float]]:
    """(marked ones among `drawn` of `total`, log of the probability), far tails left out."""
    low, high = max(0, drawn + marked - total), min(marked, drawn)
    if low < high:
        centre = drawn * marked / total
        spread = math.sqrt(centre * (1 - marked / total) * (total - drawn) / max(1, total - 1))
        low = max(low, math.floor(centre - REACH * spread))
        high = min(high, math.ceil(centre + REACH * spread))
    whole = log_choose(total, drawn)
    for k in range(low, high + 1):
        yield k, log_choose(marked, k) + log_choose(total - marked, drawn - k) - whole


def log_choose(n: int, k: int) -> float:
    """Log of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_sum(logs: Iterable[float]) -> float:
    """Log of a sum of probabilities given by their logs; at most 0."""
    found = list(logs)
    top = max(found)
    return min(0.0, top + math.log(math.fsum(math.exp(each - top) for each in found)))
