"""A score curve in characters: a dot for each score, a bar for its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from moevolve.report.summary import CurvePoint

BLOCKS = "▁▂▃▄▅▆▇█"
AXIS = 7
"""Characters left of the plot."""


def sparkline(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> str:
    """One block a value, scaled between `low` and `high`."""
    span = max(high - low, 1e-9)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * min(1.0, max(0.0, (value - low) / span)))] for value in values)


def chart(curve: Sequence[CurvePoint], *, width: int = 72, height: int = 10) -> list[str]:
    """Lines of a chart of the run's scores, oldest left. Sealed scores are `◆`, dev scores `●`.

    Args:
        curve: the scores; of more than fit, the newest are drawn.
        width: characters of a line.
        height: lines of the plot, without the axis.
    """
    room = max(1, (width - AXIS) // 3)
    points = list(curve)[-room:]
    if not points or height < 2:
        return []
    column = min(8, (width - AXIS) // len(points))
    bottom = math.floor(min(point.low for point in points) * 10) / 10
    top = max(math.ceil(max(point.high for point in points) * 10) / 10, bottom + 0.1)

    def row(score: float) -> int:
        return min(height - 1, max(0, round((top - score) / (top - bottom) * (height - 1))))

    canvas = [[" "] * (column * len(points)) for _ in range(height)]
    for index, point in enumerate(points):
        place = column * index + column // 2
        for line in range(row(point.high), row(point.low) + 1):
            canvas[line][place] = "│"
        canvas[row(point.score)][place] = "◆" if point.split == "sealed" else "●"
    lines = []
    for index, cells in enumerate(canvas):
        value = top - (top - bottom) * index / (height - 1)
        lines.append(f"{value:5.2f} ┤" + "".join(cells).rstrip())
    lines.append(" " * (AXIS - 1) + "└" + "─" * (column * len(points)))
    lines.append(" " * AXIS + "".join(f"{_name(point):^{column}}"[:column] for point in points).rstrip())
    return lines


def _name(point: CurvePoint) -> str:
    return str(point.cycle)
