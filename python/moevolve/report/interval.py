"""Intervals of differences, from the intervals that the journal holds."""

from __future__ import annotations

import math

from moevolve.records import Interval


def gain_interval(before: Interval, after: Interval) -> tuple[float, float]:
    """95 % interval of `after - before`, from the two scores' own intervals.

    The square-and-add rule (Newcombe 1998, Statistics in Medicine 17:873-890, method 10). It takes the two as
    independent; scores on the same tasks are positively correlated, so this interval is too wide rather than
    too narrow.
    """
    gain = after.mean - before.mean
    low = math.hypot(after.mean - after.low, before.high - before.mean)
    high = math.hypot(after.high - after.mean, before.mean - before.low)
    return max(-1.0, gain - low), min(1.0, gain + high)
