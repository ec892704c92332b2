"""Values of a spreadsheet's cells and formulas: numbers, texts, truths, nothing, and blocks of these."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_TEXT = 4096
"""Characters of a text."""


class FormulaError(ValueError):
    """A formula that comes to no value, or is not known here."""


class Block:
    """Values of a rectangle of cells, row by row.

    Args:
        flat: the values.
        shape: rows and columns.
    """

    def __init__(self, flat: Sequence[Value], shape: tuple[int, int]) -> None:
        self.flat = list(flat)
        self.shape = shape


Single = float | str | bool | None
Value = Single | Block


def scalar(value: Value) -> Single:
    """A single value; of a block of one cell, that cell's.

    Raises:
        FormulaError: a block of several cells.
    """
    if not isinstance(value, Block):
        return value
    if value.shape != (1, 1):
        raise FormulaError("a range stands where one value is wanted")
    return scalar(value.flat[0])


def number(value: Value) -> float:
    """A value as a number: a truth is 1 or 0, nothing 0, a text the number that it spells.

    Raises:
        FormulaError: it is none, or not finite.
    """
    single = scalar(value)
    try:
        found = 0.0 if single is None else float(single)
    except ValueError:
        raise FormulaError("a text stands where a number is wanted") from None
    if not math.isfinite(found):
        raise FormulaError("a number that is too large")
    return found


def text(value: Value) -> str:
    """A value as a text, whole numbers without a point.

    Raises:
        FormulaError: it is too long.
    """
    single = scalar(value)
    if single is None:
        return ""
    if isinstance(single, bool):
        return "TRUE" if single else "FALSE"
    said = single if isinstance(single, str) else f"{single:.15g}"
    if len(said) > MOST_TEXT:
        raise FormulaError("a text that is too long")
    return said


def compared(a: Value, b: Value) -> int:
    """-1, 0 or 1: numbers stand before texts, texts before truths; texts are compared without case."""
    left, right = _ranked(scalar(a), scalar(b)), _ranked(scalar(b), scalar(a))
    return (left > right) - (left < right)


def _ranked(value: Single, other: Single) -> tuple[int, float, str]:
    if value is None:
        # Nothing equals 0, no text and FALSE, by what it is compared with.
        value = "" if isinstance(other, str) else False if isinstance(other, bool) else 0.0
    if isinstance(value, bool):
        return 2, float(value), ""
    if isinstance(value, str):
        return 1, 0.0, value.casefold()
    return 0, number(value), ""
