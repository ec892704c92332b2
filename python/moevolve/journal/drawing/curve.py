"""The score curve: dev scores by cycle with their 95 % band, sealed scores as marks with error bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from moevolve.journal.drawing.braille import Canvas
from moevolve.journal.drawing.chart import Series, decimated
from moevolve.journal.drawing.lines import Line, Span, fit
from moevolve.journal.figures import score
from moevolve.journal.scores import Point
from moevolve.journal.view import RunView
from moevolve.records import Level

Place = Callable[[float], int]

_GUTTER = 5
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
_LEAST_SPAN = 0.08
"""A flat curve is shown flat: the axis never spans less than this."""


def curve_lines(
    view: RunView,
    width: int,
    height: int,
    *,
    ended: bool = True,
    message: str = "No score yet: the sealed test comes first",
    others: Sequence[Series] = (),
    cursor: int | None = None,
) -> list[Line]:
    """The chart in `height` lines of `width` cells: plot, axis with promotion marks, cycle labels.

    Args:
        view: the run.
        width: cells of a line.
        height: lines, three at least.
        ended: whether the run goes on no more, so that the axis keeps no room for it.
        message: what is said before any score.
        others: curves of other runs, drawn below the run's own.
        cursor: the cycle at which a vertical line stands.
    """
    points = [point for point in view.curve if _drawable(point)]
    rows = height - 2
    if width < _GUTTER + 8 or rows < 2:
        return [fit([("too small to draw", "quiet")], width) for _ in range(height)]
    if not points:
        return _message(message, width, height)
    beyond = [y for each in others for _, y in each.points if _rate(y)]
    low, high, step = value_axis(points, rows, beyond)
    last = max([cycle_axis(view, ended=ended), *(x for each in others for x, _ in each.points)])
    columns = width - _GUTTER - 1
    canvas = Canvas(columns, rows)

    def x_of(cycle: float) -> int:
        return round(cycle / last * (canvas.width - 1))

    def y_of(value: float) -> int:
        return round((high - min(max(value, low), high)) / (high - low) * (canvas.height - 1))

    _grid(canvas, low, high, step, y_of)
    if cursor is not None:
        for y in range(canvas.height):
            canvas.dot(x_of(cursor), y, "mark")
    for each in others:
        _other(canvas, each, x_of, y_of)
    marks = [point for point in points if point.split == "sealed"]
    path = [point for point in points if point.split == "dev"]
    # More points than columns cannot be told apart; the newest one stays.
    path = path[:: -(len(path) // columns + 1)][::-1]
    _band(canvas, path, x_of, y_of)
    for a, b in zip(path, path[1:], strict=False):
        for thickness in range(2 if rows >= 12 else 1):
            ends = (
                x_of(a.cycle),
                y_of(a.score.mean) + thickness,
                x_of(b.cycle),
                y_of(b.score.mean) + thickness,
            )
            canvas.line(*ends, "curve")
    for point in path:
        _blob(canvas, x_of(point.cycle), y_of(point.score.mean))
    for point in marks:
        # A final score stands just after its cycle: a run may have gone on since.
        x = x_of(min(last, point.cycle + 0.5) if point.when == "final" else point.cycle)
        canvas.line(x, y_of(point.score.high), x, y_of(point.score.low), "sealed")
        canvas.glyph(x, y_of(point.score.mean), "◆", "sealed")

    labels = _labels(low, high, step, rows, y_of)
    lines = [_plot_row(canvas, row, labels) for row in range(rows)]
    lines.append(_axis(view, columns, x_of))
    lines.append(_cycles(last, columns, x_of))
    return [fit(line, width) for line in lines]


def _labels(low: float, high: float, step: float, rows: int, y_of: Place) -> dict[int, float]:
    """Row -> value that stands at it: every second or third one where they would come to neighbouring rows."""
    ticks = _ticks(low, high, step)
    for every in range(1, len(ticks) + 1):
        found = {min(rows - 1, y_of(value) // 4): value for value in ticks[::every]}
        taken = sorted(found)
        apart = all(b - a > 1 for a, b in zip(taken, taken[1:], strict=False))
        if len(found) == len(ticks[::every]) and (apart or every == len(ticks)):
            return found
    return {}


def _other(canvas: Canvas, series: Series, x_of: Place, y_of: Place) -> None:
    """Another run's curve."""
    points = [point for point in series.points if _rate(point[1])]
    points = [points[place] for place in decimated(points, canvas.width)]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        canvas.line(x_of(x0), y_of(y0), x_of(x1), y_of(y1), series.tone)
    if points:
        canvas.glyph(x_of(points[-1][0]), y_of(points[-1][1]), series.name[:1], series.tone)


def value_axis(points: list[Point], rows: int, beyond: Sequence[float] = ()) -> tuple[float, float, float]:
    """(low, high, step) that hold every interval, inside [0, 1], on round numbers a few rows apart."""
    low = min(1.0, *(point.score.low for point in points), *beyond)
    high = max(0.0, *(point.score.high for point in points), *beyond)
    if high - low < _LEAST_SPAN:
        middle = (high + low) / 2
        low, high = middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2
    wanted = max(2, min(6, rows // 3))
    step = next((step for step in _STEPS if (high - low) / step <= wanted), 0.5)
    return (
        max(0.0, math.floor(low / step + 1e-9) * step),
        min(1.0, math.ceil(high / step - 1e-9) * step),
        step,
    )


def cycle_axis(view: RunView, *, ended: bool) -> float:
    """The cycle at the right edge: the plan while it is near, otherwise room to grow."""
    reached = max(view.cycle, view.curve[-1].cycle if view.curve else 0)
    if view.curve and view.curve[-1].when == "final":
        return reached + 0.5
    if ended:
        return max(1.0, float(reached))
    roomy = max(4, math.ceil(reached * 1.25))
    return float(min(view.planned, max(roomy, 24)) if view.planned else roomy)


def _drawable(point: Point) -> bool:
    return all(map(_rate, (point.score.mean, point.score.low, point.score.high)))


def _rate(value: float) -> bool:
    """Whether it may be a mean of scores, or the end of an interval of one."""
    return -1.0 <= value <= 2.0


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(canvas: Canvas, low: float, high: float, step: float, y_of: Place) -> None:
    for value in _ticks(low, high, step):
        for x in range(0, canvas.width, 4):
            canvas.dot(x, y_of(value), "faint")


def _band(canvas: Canvas, path: list[Point], x_of: Place, y_of: Place) -> None:
    """Every other dot between the interval's ends, so that the curve inside stays readable."""
    for a, b in zip(path, path[1:], strict=False):
        x0, x1 = x_of(a.cycle), x_of(b.cycle)
        for x in range(x0, x1 + 1):
            share = (x - x0) / max(1, x1 - x0)
            top = y_of(a.score.high + (b.score.high - a.score.high) * share)
            bottom = y_of(a.score.low + (b.score.low - a.score.low) * share)
            for y in range(top, bottom + 1):
                if (x + y) % 2 == 0:
                    canvas.dot(x, y, "band")


def _blob(canvas: Canvas, x: int, y: int) -> None:
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            canvas.dot(x + dx, y + dy, "curve")


def _plot_row(canvas: Canvas, row: int, labels: dict[int, float]) -> Line:
    label: Span = (
        (f"{score(labels[row]):>{_GUTTER - 1}} ", "quiet") if row in labels else (" " * _GUTTER, "plain")
    )
    return [label, ("┤" if row in labels else "│", "faint"), *canvas.row(row)]


def _axis(view: RunView, columns: int, x_of: Place) -> Line:
    """The bottom line; `w` and `p` stand where weights and programs were promoted, a number where several were."""
    cells: list[Span] = [("─", "faint")] * columns
    places: dict[int, list[Level]] = {}
    for cycle, level in view.promotions:
        places.setdefault(min(columns - 1, x_of(cycle) // 2), []).append(level)
    for column, levels in places.items():
        if len(levels) == 1:
            cells[column] = (levels[0][0], levels[0])
        elif len(levels) == 2 and column + 1 < columns and column + 1 not in places:
            cells[column], cells[column + 1] = ((level[0], level) for level in levels)
        else:
            cells[column] = (str(len(levels)) if len(levels) < 10 else "+", "mark")
    return [(" " * _GUTTER, "plain"), ("└", "faint"), *cells]


def _cycles(last: float, columns: int, x_of: Place) -> Line:
    """Cycle numbers under the axis, as many as fit."""
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if last / n * 5 <= columns), 1000)
    row = [" "] * (columns + 1)
    for cycle in range(0, int(last) + 1, every):
        text = str(cycle)
        start = min(x_of(cycle) // 2, columns - len(text))
        if all(cell == " " for cell in row[max(0, start - 1) : start + len(text) + 1]):
            row[start : start + len(text)] = text
    return [("cycle ", "quiet"), ("".join(row[:columns]), "quiet")]


def _message(message: str, width: int, height: int) -> list[Line]:
    lines: list[Line] = [[] for _ in range(height)]
    lines[height // 2] = [(message.center(width), "quiet")]
    return [fit(line, width) for line in lines]
