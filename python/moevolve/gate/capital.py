"""Capital of a bettor: the e-value of "the mean of paired differences lies above a bound", looked at whenever one likes.

Betting on bounded means (Waudby-Smith and Ramdas, JRSS B 86, 2024, arXiv 2010.09686). With a paired difference d in [-1, 1],
a bound -m and a stake 0 < s < 1,

    K(s) = prod_i (1 + s * (d_i + m) / (1 - m))

is a non-negative supermartingale while the mean of each d_i, given what came before, is at most -m: it exceeds 1/alpha at
any time whatever with probability at most alpha (Ville's inequality). The mean of K over a fixed grid of stakes is one as
well. Capital depends on how often each difference occurred, not on their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

STAKES = (0.1, 0.2, 0.4, 0.7, 0.95)
"""The grid that capital is averaged over: small stakes for small gains among much churn, large ones for what hardly
varies."""

Counts = dict[float, int]
"""Paired difference -> number of tasks."""


def log_capital(counts: Mapping[float, int], margin: float = 0.0) -> float:
    """Log of the e-value for "the mean difference lies above -`margin`", where difference d came `counts[d]` times.

    `margin` lies in (-1, 1); the e-value grows with it.
    """
    ordered = sorted(counts.items())
    logs = []
    for stake in STAKES:
        scaled = stake / (1 - margin)
        logs.append(sum(count * math.log1p(scaled * (d + margin)) for d, count in ordered))
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


def lower_bound(counts: Mapping[float, int], alpha: float) -> float:
    """Lower confidence bound of the mean difference at error rate `alpha`, valid at any time; -1 without tasks.

    It is the largest b at which "the mean is at most b" is not yet refuted, within 2^-12.
    """
    proof = math.log(1 / alpha)
    low, high = -1.0, mean(counts)
    if not counts:
        return low
    for _ in range(12):
        middle = (low + high) / 2
        if middle > -1 and log_capital(counts, -middle) >= proof:
            low = middle
        else:
            high = middle
    return low


def least_tasks(margin: float, alpha: float) -> int:
    """Paired tasks that show a skill unharmed beyond `margin` where candidate and champion never differ.

    The least that any skill costs. Without a margin no number of ties shows anything: 0 means "not by ties".
    """
    if margin <= 0:
        return 0
    proof = math.log(1 / alpha)
    low, high = 0, 1
    while log_capital({0.0: high}, margin) < proof:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_capital({0.0: middle}, margin) < proof else (low, middle)
    return high


def mirrored(counts: Mapping[float, int]) -> Counts:
    """The same tasks seen from the other side."""
    return {-difference: count for difference, count in counts.items()}


def add(counts: Counts, differences: Iterable[float]) -> None:
    """Counts more paired differences."""
    for difference in differences:
        counts[difference] = counts.get(difference, 0) + 1


def size(counts: Mapping[float, int]) -> int:
    """Number of tasks."""
    return sum(counts.values())


def mean(counts: Mapping[float, int]) -> float:
    """Mean paired difference; 0 without tasks."""
    n = size(counts)
    return math.fsum(d * count for d, count in sorted(counts.items())) / n if n else 0.0


def tasks_needed(counts: Mapping[float, int], proof: float, margin: float, optimism: float) -> float:
    """Further tasks after which the capital is expected to reach `proof`; infinite where it does not grow.

    Growth goes on at the rate seen plus `optimism` of its standard errors, at the stake that needs the fewest.
    """
    n = size(counts)
    best = math.inf
    for stake in STAKES:
        scaled = stake / (1 - margin)
        growth = {d: math.log1p(scaled * (d + margin)) for d in counts}
        rate = sum(growth[d] * count for d, count in sorted(counts.items())) / n
        spread = sum((growth[d] - rate) ** 2 * count for d, count in sorted(counts.items())) / n
        missing = proof + math.log(len(STAKES)) - rate * n
        if missing <= 0:
            return 0.0
        if (hoped := rate + optimism * math.sqrt(spread / n)) > 0:
            best = min(best, missing / hoped)
    return best
