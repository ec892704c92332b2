"""Figures of scores as reports have them: shares in four decimals, an evaluator's numbers in the digits that they have."""

from __future__ import annotations

from moevolve.records import Interval

DIGITS = 4
"""Decimals of a share."""
LARGEST = 1.79769313486231e308
"""The largest number of fifteen digits."""


def short(value: float) -> float:
    """A share, or a difference of two."""
    return round(value, DIGITS)


def ends(interval: Interval) -> tuple[float, float]:
    """Both ends of a share's interval."""
    return short(interval.low), short(interval.high)


def exact(value: float) -> float:
    """An evaluator's number, whose unit nobody knows: fifteen digits of it, and finite however large it is."""
    return max(-LARGEST, min(LARGEST, float(f"{value:.15g}")))
