"""Means and medians of any finite numbers: scores near the limit of floating point have sums beyond it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

SCALE = 2.0**-64
"""A power of two, by which large numbers are multiplied without rounding."""


def mean(values: Sequence[float]) -> float:
    """The mean of finite values, which is finite; that of `statistics.fmean` where their sum is one."""
    try:
        found = statistics.fmean(values)
    except OverflowError:
        found = math.inf
    if math.isfinite(found):
        return found
    scaled = math.fsum(value * SCALE for value in values) / len(values)
    largest = max(map(abs, values))
    return max(-largest, min(largest, scaled / SCALE))


def median(values: Sequence[float]) -> float:
    """The median of finite values, which is finite; that of `statistics.median` where the middle two have a sum."""
    found = statistics.median(values)
    if math.isfinite(found):
        return found
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] / 2 + ordered[len(ordered) // 2] / 2
