"""Numbers as people read them in a narrow pane."""

import math

from moevolve.records import Interval


def score(value: float, digits: int = 2) -> str:
    """A score in [0, 1] without its leading zero: `.48`, `1.00`."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if text.startswith("0."):
        return text[1:]
    return "-" + text[2:] if text.startswith("-0.") else text


def gain(value: float, digits: int = 3) -> str:
    """A signed difference: `+.041`, `-.020`."""
    text = score(value, digits)
    return text if text[0] in "-–" else "+" + text


def interval(value: Interval) -> str:
    """Mean and half width of its interval: `.448 ±.021`."""
    return f"{score(value.mean, 3)} ±{score((value.high - value.low) / 2, 3)}"


def duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:00:12`; an unknown time is a dash."""
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(count: int) -> str:
    """A count in four or five characters: `950`, `12.4k`, `1.9M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return str(count)


def counted(count: int, noun: str) -> str:
    """`1 lesson`, `2 lessons`, `1,204 lessons`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
