"""Rows of a page: a line of text, and what Enter opens on it."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

from rich.cells import cell_len

from moevolve.journal.drawing.lines import Line, fit, spread, text_of, width_of
from moevolve.journal.kinds import Tone
from moevolve_tui.targets import Target


class Row(NamedTuple):
    """One line of a page; `target` is what Enter opens on it, None where there is nothing."""

    line: Line
    target: Target | None = None


def rule(title: str, width: int, right: str = "") -> Row:
    """A heading within a page: `─ Title ─────────── right`."""
    left: Line = [("─ ", "faint"), (title, "head"), (" ", "plain")]
    end: Line = [(f" {right}", "quiet")] if right else []
    room = width - width_of(left) - width_of(end)
    return Row(fit([*left, ("─" * max(0, room), "faint"), *end], width))


def text(
    words: str, width: int, tone: Tone = "plain", target: Target | None = None, indent: int = 0
) -> list[Row]:
    """Words wrapped to as many rows as they take; only the first one has the target."""
    found: list[Row] = []
    for paragraph in words.split("\n"):
        for piece in textwrap.wrap(paragraph, max(8, width - indent), break_on_hyphens=False) or [""]:
            found.append(Row([(" " * indent + piece, tone)], target if not found else None))
    return found


def pair(name: str, value: str, width: int, tone: Tone = "plain") -> Row:
    """A name and a figure: `tokens  510k`."""
    return Row(fit([(f"{name:<16} ", "quiet"), (value, tone)], width))


def beside(left: list[Row], right: list[Row], left_width: int, right_width: int) -> list[Row]:
    """Two blocks side by side, one cell of a line between them. A row opens what its left half opens, or else its right."""
    rows = []
    for index in range(max(len(left), len(right))):
        first = left[index] if index < len(left) else Row([])
        second = right[index] if index < len(right) else Row([])
        rows.append(
            Row(
                [*fit(first.line, left_width), ("  ", "plain"), *fit(second.line, right_width)],
                first.target or second.target,
            )
        )
    return rows


def table(
    rows: list[list[tuple[str, Tone]]], widths: list[int], targets: list[Any] | None = None
) -> list[Row]:
    """Rows of cells; a negative width aligns to the right."""
    found = []
    for number, cells in enumerate(rows):
        spans: Line = []
        for (words, tone), size in zip(cells, widths, strict=False):
            room = abs(size)
            shown = words if cell_len(words) <= room else words[: max(0, room - 1)] + "…"
            padding = " " * (room - cell_len(shown))
            spans.append(((padding + shown) if size < 0 else shown + padding, tone))
            spans.append((" ", "plain"))
        found.append(Row(spans, targets[number] if targets else None))
    return found


def middle(words: str, width: int) -> str:
    """The text in at most `width` cells, its middle cut: names differ at both ends."""
    if cell_len(words) <= width:
        return words
    if width < 5:
        return words[: max(0, width - 1)] + "…"
    tail = (width - 1) * 2 // 3
    return words[: width - 1 - tail] + "…" + words[-tail:]


__all__ = [
    "Line",
    "Row",
    "beside",
    "fit",
    "middle",
    "pair",
    "rule",
    "spread",
    "table",
    "text",
    "text_of",
    "width_of",
]
