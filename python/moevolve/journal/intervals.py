"""Intervals of what a journal holds: of a score, of a gain, of the level that is mastered. All at 95 %."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from moevolve.records import Interval

MASTERED = 0.8
"""Success from which a level counts as mastered."""
Z = 1.9599639845400536
"""Of a normal distribution, .975 lies below."""


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a success rate (E. B. Wilson, 1927). `n` verdicts, `successes` of them good."""
    if n == 0:
        return Interval(mean=0.0, low=0.0, high=1.0, n=0)
    mean = successes / n
    centre = (mean + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
    # Rounding may put an end a little on the wrong side of a mean of 0 or 1.
    low, high = min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))
    return Interval(mean=mean, low=low, high=high, n=n)


def independent_gain(before: Interval, after: Interval) -> tuple[float, float]:
    """Interval of `after - before` where the two were scored on different tasks, from their own intervals.

    The square-and-add rule (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    """
    gain = after.mean - before.mean
    low = math.hypot(after.mean - after.low, before.high - before.mean)
    high = math.hypot(after.high - after.mean, before.mean - before.low)
    return max(-1.0, gain - low), min(1.0, gain + high)


def paired_gain(
    before: Sequence[float | None], after: Sequence[float | None]
) -> tuple[float, tuple[float, float]] | None:
    """Mean difference and its interval over the tasks that both sides answered; None where there is none.

    Two pairs are added, half of one better and half of one worse: for scores of 0 and 1 this is the adjusted Wald
    interval of Agresti and Min (Statistics in Medicine 24:729-740, 2005).
    """
    gains = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if not gains:
        return None
    return gain_of_sums(len(gains), math.fsum(gains), math.fsum(each * each for each in gains))


def gain_of_sums(pairs: int, gains: float, squares: float) -> tuple[float, tuple[float, float]]:
    """The same of the number of pairs, the sum of their differences, and that of the squares."""
    n = pairs + 2
    centre = gains / n
    variance = (squares + 1) / n - centre * centre
    half = Z * math.sqrt(variance / n)
    return gains / pairs, (max(-1.0, centre - half), min(1.0, centre + half))


def mastered_level(
    tallies: Mapping[int, tuple[float, float]], levels: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    """Mastered level and its interval: median and quantiles of the level's posterior; 0 is none.

    A skill masters levels up to some one, each with a success drawn evenly from [MASTERED, 1], and those above with
    one from [0, MASTERED]; which one it is, is as likely for each before any attempt.

    Args:
        tallies: level -> (successes, attempts); they may be fractions where older ones count for less.
        levels: the lowest and the highest.
    """
    low, high = levels
    posterior = [0.0]
    for level in range(low, high + 1):
        successes, attempts = tallies.get(level, (0.0, 0.0))
        above = 1 - beta(MASTERED, successes + 1, attempts - successes + 1)
        odds = (max(above, 1e-12) / (1 - MASTERED)) / (max(1 - above, 1e-12) / MASTERED)
        posterior.append(posterior[-1] + math.log(odds))
    most = max(posterior)
    shares = [math.exp(each - most) for each in posterior]
    whole = sum(shares)
    quantiles = []
    for share in (0.5, 0.025, 0.975):
        index, reached = 0, shares[0]
        while reached < share * whole and index < len(shares) - 1:
            index += 1
            reached += shares[index]
        quantiles.append(low + index - 1 if index else 0)
    return quantiles[0], (quantiles[1], quantiles[2])


@lru_cache(maxsize=4096)
def posterior(successes: float, attempts: float, prior: tuple[float, float] = (1.0, 1.0)) -> Interval:
    """The mean and the 95 % credible interval of a success rate after some attempts.

    Args:
        successes: of the attempts; both may be fractions where older ones count for less.
        attempts: their number.
        prior: successes and failures that the Beta prior is worth.
    """
    a, b = prior[0] + successes, prior[1] + attempts - successes
    low, high = (_quantile(share, a, b) for share in (0.025, 0.975))
    mean = a / (a + b)
    return Interval(mean=mean, low=min(mean, low), high=max(mean, high), n=round(attempts))


def _quantile(share: float, a: float, b: float) -> float:
    """The quantile of a Beta distribution, by bisection to 10^-7."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if beta(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # Lentz's method; a few dozen steps reach the last bits for all a and b that counts come to.
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + numerator * d)
            c = 1 + numerator / c
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * fraction / a
