"""A chart of any series: values with or without intervals over steps, with a linear or a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from moevolve.journal.drawing.braille import Canvas
from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.kinds import Tone

GUTTER = 6
MOST = 1e150
"""Largest size of a number that is drawn: differences and squares of such numbers are still numbers."""


class Series(msgspec.Struct, frozen=True):
    """One curve. `points` are (x, y), in order of x; `bands` the same places' (low, high), where there are any."""

    name: str
    points: Sequence[tuple[float, float]]
    tone: Tone = "curve"
    bands: Sequence[tuple[float, float]] = ()


def chart_lines(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    log: bool = False,
    message: str = "not measured",
    cursor: float | None = None,
) -> list[Line]:
    """Plot and axis in `height` lines of `width` cells. What is no number is left out, on a logarithmic axis what is not
    above 0 as well.

    Args:
        series: the curves; a later one is drawn over an earlier one.
        width: cells of a line.
        height: lines, the last of them the axis.
        log: whether the axis of values is logarithmic.
        message: what is said where no curve has a point.
        cursor: x at which a vertical line stands.
    """
    shown = [kept for each in series if (kept := _drawable(each, log)).points]
    rows, columns = height - 1, width - GUTTER - 1
    if rows < 2 or columns < 6:
        return [fit([("too small to draw", "quiet")], width) for _ in range(max(0, height))]
    if not shown:
        lines: list[Line] = [[] for _ in range(height)]
        lines[height // 2] = [("–  " + message, "quiet")]
        return [fit(each, width) for each in lines]
    scale: Callable[[float], float] = math.log10 if log else float
    values = [scale(y) for each in shown for _, y in each.points]
    values += [scale(end) for each in shown for pair in each.bands for end in pair if not log or end > 0]
    low, high = min(values), max(values)
    if high - low < 1e-9:
        # Around a number that is hardly one, as much room as around zero.
        room = 0.5 * (abs(low) if abs(low) > 1e-9 else 1.0)
        low, high = low - room, high + room
    first = min(each.points[0][0] for each in shown)
    last = max(each.points[-1][0] for each in shown)
    canvas = Canvas(columns, rows)

    def x_of(x: float) -> int:
        return round((x - first) / ((last - first) or 1.0) * (canvas.width - 1))

    def y_of(y: float) -> int:
        return round((high - min(high, max(low, scale(y)))) / (high - low) * (canvas.height - 1))

    if cursor is not None:
        for y in range(canvas.height):
            canvas.dot(x_of(min(last, max(first, cursor))), y, "mark")
    for each in shown:
        _draw(canvas, each, x_of, y_of, log)
    labels = {row: high - (high - low) * row / (rows - 1) for row in sorted({0, (rows - 1) // 2, rows - 1})}
    lines = []
    for row in range(rows):
        text = short(10 ** labels[row] if log else labels[row]) if row in labels else ""
        edge = "┤" if row in labels else "│"
        lines.append([(f"{text:>{GUTTER - 1}} ", "quiet"), (edge, "faint"), *canvas.row(row)])
    left, right = f"{first:g}", f"{last:g}"
    axis = left + "─" * max(1, columns - len(left) - len(right)) + right
    lines.append([(" " * GUTTER, "plain"), ("└", "faint"), (axis, "quiet")])
    return [fit(each, width) for each in lines]


def drawable(*values: float) -> bool:
    """Whether these are numbers of a size that an axis can hold: what lies beyond is nothing that was measured."""
    return all(abs(value) <= MOST for value in values)


def short(value: float) -> str:
    """A value in five characters at most: `.0021`, `12.3`, `1.2e5`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = abs(value)
    if 0.001 <= size < 1:
        return f"{value:.3g}".replace("0.", ".", 1)[:6]
    if 1 <= size < 10_000:
        return f"{value:.3g}" if size < 1000 else f"{value:.0f}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def decimated(points: Sequence[tuple[float, float]], most: int) -> list[int]:
    """Places of about `most` points that keep a curve's shape: of each stretch the lowest, the highest and the last."""
    if len(points) <= most:
        return list(range(len(points)))
    stretch = max(1, math.ceil(3 * len(points) / most))
    kept: set[int] = set()
    for start in range(0, len(points), stretch):
        places = range(start, min(start + stretch, len(points)))
        kept |= {
            min(places, key=lambda place: points[place][1]),
            max(places, key=lambda place: points[place][1]),
            places[-1],
        }
    return sorted(kept)


def _drawable(series: Series, log: bool) -> Series:
    def good(point: tuple[float, float]) -> bool:
        return drawable(*point) and (not log or point[1] > 0)

    places = [place for place, point in enumerate(series.points) if good(point)]
    bands = [series.bands[place] for place in places] if series.bands else []
    if not all(drawable(low, high) for low, high in bands):
        bands = []
    return Series(series.name, [series.points[place] for place in places], series.tone, bands)


def _draw(
    canvas: Canvas, series: Series, x_of: Callable[[float], int], y_of: Callable[[float], int], log: bool
) -> None:
    places = decimated(series.points, 2 * canvas.width)
    if series.bands and not log:
        for a, b in zip(places, places[1:], strict=False):
            x0, x1 = x_of(series.points[a][0]), x_of(series.points[b][0])
            (low0, high0), (low1, high1) = series.bands[a], series.bands[b]
            for x in range(x0, x1 + 1):
                share = (x - x0) / max(1, x1 - x0)
                top, bottom = y_of(high0 + (high1 - high0) * share), y_of(low0 + (low1 - low0) * share)
                for y in range(top, bottom + 1):
                    if (x + y) % 2 == 0:
                        canvas.dot(x, y, "band")
    for a, b in zip(places, places[1:], strict=False):
        here, there = series.points[a], series.points[b]
        canvas.line(x_of(here[0]), y_of(here[1]), x_of(there[0]), y_of(there[1]), series.tone)
    if len(places) == 1:
        only = series.points[places[0]]
        for dx in (-1, 0, 1):
            canvas.dot(x_of(only[0]) + dx, y_of(only[1]), series.tone)
