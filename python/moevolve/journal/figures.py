"""Figures as people read them: one formatting for every reader of a journal."""

from __future__ import annotations

import math
from decimal import Decimal

from moevolve.records import Interval

UNKNOWN = "–"
"""What stands for a number that is none."""


def score(value: float, digits: int = 2) -> str:
    """A score in [0, 1] without its leading zero: `.48`, `1.00`."""
    if not math.isfinite(value):
        return UNKNOWN
    text = f"{value:.{digits}f}"
    if text.startswith("0."):
        return text[1:]
    return "-" + text[2:] if text.startswith("-0.") else text


def gain(value: float, digits: int = 3) -> str:
    """A signed difference: `+.041`, `-.020`."""
    text = score(value, digits)
    return text if text[0] in f"-{UNKNOWN}" else "+" + text


def interval(value: Interval) -> str:
    """Mean and half width of its interval: `.448 ±.021`."""
    return f"{score(value.mean, 3)} ±{score((value.high - value.low) / 2, 3)}"


def number(value: float | None, form: str = ".6g") -> str:
    """A number of no unit that we know, in the digits of `form`; a dash for what is none."""
    return UNKNOWN if value is None or not math.isfinite(value) else format(value, form)


def needed(alpha: float) -> str:
    """Evidence that promotes at an error rate: `20 : 1`."""
    return f"{number(1 / alpha if alpha else math.inf, ',.4g')} : 1"


def decimals(value: float | None) -> str:
    """A score in a table: `0.448`, nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.3f}" if math.isfinite(value) else UNKNOWN


def signed(value: float | None) -> str:
    """A difference in a table: `+0.041`, nothing where there is none."""
    return "" if value is None else f"{value:+.3f}" if math.isfinite(value) else UNKNOWN


def bounds(value: tuple[float, float] | None, *, sign: bool = False) -> str:
    """An interval in a table: `[0.427, 0.469]`, nothing where there is none."""
    if value is None:
        return ""
    low, high = (signed(end) if sign else decimals(end) for end in value)
    return f"[{low}, {high}]"


def level(value: int | None, ends: tuple[int, int] | None) -> str:
    """A mastered level with its interval: `8 (6-9)`, the interval left out where it is one level."""
    if value is None or ends is None:
        return ""
    return str(value) if ends[0] == ends[1] else f"{value} ({ends[0]}-{ends[1]})"


def evidence(logarithm: float) -> str:
    """An e-value from its logarithm, how many times likelier than under "no better": `181 : 1`, `e^39.2`."""
    if not math.isfinite(logarithm):
        return UNKNOWN
    return f"e^{logarithm:.1f}" if abs(logarithm) > 6.9 else f"{math.exp(logarithm):.3g} : 1"


def duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:00:12`; an unknown time is a dash."""
    if not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(count: int) -> str:
    """A count in four or five characters: `950`, `12.4k`, `1.9M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        # What rounds up to a thousand of a unit is one of the next.
        if count >= 0.99995 * size and count >= 1000:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return str(count)


def counted(count: int, noun: str) -> str:
    """`1 lesson`, `2 lessons`, `1,204 lessons`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def money(value: Decimal) -> str:
    """Money as plain digits, without an exponent or trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
