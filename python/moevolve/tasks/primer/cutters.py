"""The primer's own cutters, for its numbers: columns without a carry, the places of a number, where two numbers differ."""

from __future__ import annotations

from moevolve.tasks.cutters import GENERAL, Cutter


def columns(text: str, size: int) -> list[str]:
    """`357+120` -> `3+1`, `57+20`: groups of `size` columns or more, highest first, cut where nothing is carried.

    In a sum the larger number of a group stands first. A text that is no sum or difference stays whole.
    """
    sign = "+" if "+" in text else "-"
    first, _, second = text.partition(sign)
    if not (_digits(first) and _digits(second)):
        return [text]
    edges = column_edges(first, second, sign, size)
    width = edges[-1]
    first, second = first.zfill(width), second.zfill(width)
    groups = [
        (int(first[width - end : width - start]), int(second[width - end : width - start]))
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    if sign == "+":
        groups = [(max(pair), min(pair)) for pair in groups]
    return [f"{left}{sign}{right}" for left, right in reversed(groups)]


def column_edges(first: str, second: str, sign: str, size: int) -> list[int]:
    """Columns, counted from the right, where two numbers can be cut so that nothing is carried and no zero leads."""
    width = max(len(first), len(second))
    first, second = first.zfill(width), second.zfill(width)
    edges, last = [0], None
    for column in range(1, width):
        upper, lower = int(first[-column]), int(second[-column])
        if (1 <= upper + lower <= 8) if sign == "+" else upper - lower >= 2:
            last = column
        if last is not None and last - edges[-1] >= size:
            edges.append(last)
    if len(edges) > 1 and width - edges[-1] < size:
        edges.pop()
    return [*edges, width]


def places(text: str, size: int) -> list[str]:
    """`507` -> `7`, `500`: what a number is the sum of, lowest first; any other text stays whole."""
    if not _digits(text):
        return [text]
    amounts = [digit + "0" * place for place, digit in enumerate(reversed(text)) if digit != "0"]
    return amounts or ["0"]


def window(text: str, size: int) -> list[str]:
    """`71542,71983` -> `54,98`, `71542`, `71983`: some digits from where two numbers of one length differ, and the numbers.

    Any other text stays whole.
    """
    left, _, right = text.partition(",")
    if len(left) != len(right) or left == right:
        return [text]
    differ = next(index for index in range(len(left)) if left[index] != right[index])
    start = max(0, min(differ, len(left) - size))
    return [f"{left[start : start + size]},{right[start : start + size]}", left, right]


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


CUTTERS = {**GENERAL, "columns": Cutter(columns, 2), "places": Cutter(places, 1), "window": Cutter(window, 2)}
