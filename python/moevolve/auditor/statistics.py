"""The statistics of a run, computed again from their definitions: e-values, bounds, error budgets, intervals.

- Capital (Waudby-Smith and Ramdas, JRSS B 86, 2024): of paired differences d in [-1, 1] and the bound -m,
  K = mean over stakes s of prod (1 + s (d + m) / (1 - m)), with s in {.1, .2, .4, .7, .95}. By Ville's inequality it
  exceeds 1/a at any time with probability at most a while the mean is at most -m.
- Online fallback (Tian and Ramdas, 2021): the k-th decision without a promotion is tested at
  a * 10 / ((k + 9)(k + 10)); a promotion gives its share back.
- Wilson's interval of a score; Agresti and Min's adjusted Wald interval of a paired gain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist

STAKES = (0.1, 0.2, 0.4, 0.7, 0.95)
EVENNESS = 10
HALVINGS = 12
"""Steps of the search for a lower bound: it is known within 2^-12."""
Z = NormalDist().inv_cdf(0.975)


class Differences:
    """A multiset of paired differences; capital depends on nothing else."""

    def __init__(self, counts: Mapping[float, int] | None = None) -> None:
        self.counts: Counter[float] = Counter(counts or {})

    def add(self, difference: float) -> None:
        """One more pair."""
        self.counts[difference] += 1

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.counts.total()

    @property
    def mean(self) -> float:
        """Mean difference; 0 without pairs."""
        return math.fsum(d * c for d, c in self.counts.items()) / self.n if self.counts else 0.0

    def log_capital(self, margin: float = 0.0) -> float:
        """Log of the e-value for "the mean lies above -`margin`"."""
        logs = [
            math.fsum(c * math.log1p(s * (d + margin) / (1 - margin)) for d, c in self.counts.items())
            for s in STAKES
        ]
        return _log_mean(logs)

    def log_against(self, margin: float = 0.0) -> float:
        """Log of the e-value for "the mean lies below -`margin`": the other side's capital."""
        return Differences({-d: c for d, c in self.counts.items()}).log_capital(-margin)

    def lower_bound(self, alpha: float) -> float:
        """The largest refuted bound, by halving [-1, mean]; -1 without pairs."""
        low, high = -1.0, self.mean
        if not self.counts:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            refuted = middle > -1 and self.log_capital(-middle) >= math.log(1 / alpha)
            low, high = (middle, high) if refuted else (low, middle)
        return low

    def tasks_needed(self, proof: float, margin: float, optimism: float) -> float:
        """Pairs until the capital is expected to reach `proof`, growth overrated by `optimism` standard errors."""
        n, fewest = self.n, math.inf
        for stake in STAKES:
            growth = {d: math.log1p(stake * (d + margin) / (1 - margin)) for d in self.counts}
            rate = math.fsum(growth[d] * c for d, c in self.counts.items()) / n
            spread = math.fsum((growth[d] - rate) ** 2 * c for d, c in self.counts.items()) / n
            missing = proof + math.log(len(STAKES)) - rate * n
            if missing <= 0:
                return 0.0
            hoped = rate + optimism * math.sqrt(spread / n)
            if hoped > 0:
                fewest = min(fewest, missing / hoped)
        return fewest


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(each - top) for each in logs) / len(logs))


def share(alpha: float, without_promotion: int, evenness: int = EVENNESS) -> float:
    """Error rate of a decision after so many decisions without a promotion."""
    k = without_promotion + 1
    return alpha * evenness / ((k + evenness - 1) * (k + evenness))


def spent(alpha: float, without_promotion: int, evenness: int = EVENNESS) -> float:
    """Sum of the shares of so many decisions without a promotion."""
    return alpha * without_promotion / (without_promotion + evenness)


def wilson(mean: float, n: int) -> tuple[float, float]:
    """95 % interval of a score over `n` tasks."""
    if n == 0:
        return 0.0, 1.0
    squared = Z * Z / n
    centre = (mean + squared / 2) / (1 + squared)
    half = Z * math.sqrt(mean * (1 - mean) / n + squared / (4 * n)) / (1 + squared)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_gain(
    before: Sequence[float | None], after: Sequence[float | None]
) -> tuple[float, float, float] | None:
    """Mean gain over the tasks that both sides answered, and its 95 % interval; None without any."""
    gains = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if not gains:
        return None
    return gain_of_sums(len(gains), math.fsum(gains), math.fsum(gain**2 for gain in gains))


def gain_of_sums(pairs: int, gains: float, squares: float) -> tuple[float, float, float]:
    """The same of the number of pairs, the sum of their gains, and that of the squares."""
    n = pairs + 2
    centre = gains / n
    half = Z * math.sqrt(((squares + 1) / n - centre**2) / n)
    return gains / pairs, max(-1.0, centre - half), min(1.0, centre + half)


def beta_interval(a: float, b: float) -> tuple[float, float]:
    """The central 95 % of a Beta distribution, by bisection of its distribution function."""
    found = []
    for share in (0.025, 0.975):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if _beta_below(middle, a, b) < share:
                low = middle
            else:
                high = middle
        found.append((low + high) / 2)
    return found[0], found[1]


def _beta_below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method; DLMF 8.17.22)."""
    if not 0.0 < x < 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_below(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 400):
        for part in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1.0 + part * d, 1.0 + part / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1.0) < 1e-12:
            break
    return front * value / a
