"""Charts as SVG elements that stand alone: no script, no font from elsewhere, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeVar

from moevolve.journal.figures import decimals
from moevolve.journal.text import line
from moevolve.journal.training import Losses
from moevolve.report.optimisation import OptimisationFigures
from moevolve.report.summary import CurvePoint, SkillFigures

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 320, 52, 16, 36, 44
LIGHT = {"dev": "#0b5cd5", "sealed": "#1a7f37", "before": "#57606a", "text": "#424a53", "grid": "#d8dee4"}
DARK = {"dev": "#6cb0ff", "sealed": "#4ac26b", "before": "#9da7b3", "text": "#c5ced6", "grid": "#3d444d"}
"""Colours by what is drawn, for a light page and for a dark one."""
FINAL = 0.4
"""Cycles after the last one at which the final sealed score stands, apart from that cycle's dev score."""
LEGEND = 400
"""Room for a name in the legend, in the larger letters of a small page as well."""
_MOST = 1e300
"""No chart has room for numbers beyond it."""
Each = TypeVar("Each")
MOST = 400
"""Points of a curve that are drawn; of more, evenly chosen ones."""


def scores(curve: Sequence[CurvePoint]) -> str:
    """The dev curve with its 95 % band and the sealed scores by cycle; nothing where none is a number."""
    curve = [each for each in curve if all(abs(value) < _MOST for value in (each.score, each.low, each.high))]
    if not curve:
        return ""
    last = max([point.cycle for point in curve] + [1])
    low = math.floor(min(point.low for point in curve) * 10) / 10
    high = max(math.ceil(max(point.high for point in curve) * 10) / 10, low + 0.1)
    width = last + FINAL
    parts = _axes("Score by cycle, with 95 % intervals", low, high, _steps(last, width))
    dev = _chosen([point for point in curve if point.split == "dev"])
    sealed = [point for point in curve if point.split == "sealed"]
    if len(dev) > 1:
        upper = [(_x(point.cycle / width), _y(point.high, low, high)) for point in dev]
        lower = [(_x(point.cycle / width), _y(point.low, low, high)) for point in reversed(dev)]
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *lower])
        parts.append(f'<polygon points="{where}" class="band"/>')
    parts.append(_path([(_x(point.cycle / width), _y(point.score, low, high)) for point in dev], "dev"))
    for index, point in enumerate([*dev, *sealed]):
        kind, radius = ("dev", 3) if point.split == "dev" else ("sealed", 5)
        final = kind == "sealed" and index > len(dev)
        x = _x((point.cycle + (FINAL if final else 0.0)) / width)
        ends = _y(point.low, low, high), _y(point.high, low, high)
        parts.append(
            f'<line class="ci line-{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
        )
        y = _y(point.score, low, high)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{kind}">'
            f"<title>cycle {point.cycle}, {point.split}: {point.score:.3f} "
            f"[{point.low:.3f}, {point.high:.3f}], n={point.n}</title></circle>"
        )
    legend = [("dev tasks, fresh each cycle", "dev"), ("sealed tasks, before and after", "sealed")]
    newest = sealed[-1] if len(sealed) > 1 else (dev or sealed)[-1]
    words = (
        f"{newest.split} score {newest.score:.3f} [{newest.low:.3f}, {newest.high:.3f}] after {last} cycles"
    )
    return _svg(HEIGHT, [*parts, *_legend(legend, HEIGHT)], f"Score by cycle: {words}")


def champions(found: OptimisationFigures) -> str:
    """The champion's score by evaluation, a step at each promotion; nothing where none is a number."""
    points = [(each.evaluation, each.score) for each in found.champions if abs(each.score) < _MOST]
    if not points:
        return ""
    last = max(found.evaluations - 1, 1)
    low, high = min(score for _, score in points), max(score for _, score in points)
    room = 0.05 * ((high - low) or abs(high)) or 1.0
    low, high = low - room, high + room
    steps: list[tuple[float, float]] = []
    for at, score in points:
        steps += [(at, steps[-1][1])] if steps else []
        steps.append((at, score))
    steps.append((last, steps[-1][1]))
    parts = _axes("Champion's score by evaluation", low, high, _steps(last, last))
    parts.append(_path([(_x(at / last), _y(score, low, high)) for at, score in _chosen(steps)], "dev"))
    words = f"Champion's score {points[-1][1]:.6g} after {found.evaluations} evaluations"
    return _svg(HEIGHT, [*parts, *_legend([("champion", "dev")], HEIGHT)], words)


def skills(figures: Mapping[str, SkillFigures]) -> str:
    """Each skill's sealed score before and after."""
    height, label = 70 + 30 * len(figures), 210
    parts = [_text(WIDTH / 2, 20, "Skills before and after, sealed tasks", anchor="middle", size=15)]
    for index, (path, figure) in enumerate(figures.items()):
        y = TOP + 30 * index
        parts.append(_text(label - 8, y + 16, line(path, 32), anchor="end"))
        for value, colour, offset in ((figure.initial, "before", 2), (figure.final, "sealed", 13)):
            if value is not None:
                width = (WIDTH - label - 60) * min(1.0, max(0.0, value))
                parts.append(
                    f'<rect x="{label}" y="{y + offset}" width="{width:.1f}" height="10" class="{colour}"/>'
                )
                parts.append(_text(label + width + 5, y + offset + 9, decimals(value), size=10))
    return _svg(
        height,
        [*parts, *_legend([("before", "before"), ("after", "sealed")], height)],
        "Skills before and after",
    )


def training(losses: Losses) -> str | None:
    """Training loss over all learning stages; None where nothing was trained."""
    values = _chosen([each if abs(each) < _MOST else 0.0 for each in losses.values])
    if not values:
        return None
    low, top = min(0.0, *values), max(1e-9, *values)
    marks = {}
    for index, cycle in enumerate(losses.cycles):
        marks[cycle] = (index + 1) / len(losses.cycles)
    every = len(marks) // 20 + 1
    parts = _axes("Training loss", low, top, [(marks[c], str(c)) for c in list(marks)[every - 1 :: every]])
    steps = max(1, len(values) - 1)
    parts.append(_path([(_x(i / steps), _y(value, low, top)) for i, value in enumerate(values)], "dev"))
    return _svg(
        HEIGHT,
        [*parts, *_legend([("loss, by cycle at its last step", "dev")], HEIGHT)],
        f"Training loss, last {values[-1]:.4g}",
    )


def _chosen(points: Sequence[Each]) -> list[Each]:
    step = len(points) // MOST + 1
    return list(points[::-step][::-1])


def _steps(last: int, width: float) -> list[tuple[float, str]]:
    every = next(n * 10**power for power in range(9) for n in (1, 2, 5) if last / (n * 10**power) <= 20)
    return [(cycle / width, str(cycle)) for cycle in range(0, last + 1, every)]


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM - 16)


def _axes(title: str, low: float, high: float, below: Sequence[tuple[float, str]]) -> list[str]:
    parts = [_text(WIDTH / 2, 20, title, anchor="middle", size=15)]
    values = [low + (high - low) * index / 5 for index in range(6)]
    # As many digits as tell the marks apart.
    told = next((digits for digits in range(3, 12) if len({f"{v:.{digits}g}" for v in values}) == 6), 12)
    for value in values:
        y = _y(value, low, high)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:.{told}g}", anchor="end"))
    parts += [_text(_x(share), HEIGHT - BOTTOM + 6, name, anchor="middle") for share, name in below]
    return parts


def _path(points: Sequence[tuple[float, float]], colour: str) -> str:
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{where}" class="curve line-{colour}"/>'


def _legend(names: Sequence[tuple[str, str]], height: int) -> list[str]:
    return [
        part
        for index, (name, colour) in enumerate(names)
        for part in (
            f'<rect x="{LEFT + LEGEND * index}" y="{height - 18}" width="10" height="10" class="{colour}"/>',
            _text(LEFT + LEGEND * index + 16, height - 9, name),
        )
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    shown = escape(line(text))
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" class="text">{shown}</text>'
    )


def _svg(height: int, parts: Sequence[str], words: str) -> str:
    """The element, with its colours for light and dark, and what it shows in words for who does not see it."""
    shown = escape(line(words))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{shown}" '
        f'font-family="system-ui, sans-serif"><title>{shown}</title><style>{_style()}</style>{"".join(parts)}</svg>'
    )


def _style() -> str:
    def rules(colours: Mapping[str, str]) -> str:
        return "".join(
            f".{name}{{fill:{colour}}}.line-{name}{{stroke:{colour}}}" for name, colour in colours.items()
        ) + (f".grid{{stroke:{colours['grid']}}}.band{{fill:{colours['dev']};fill-opacity:.2}}")

    shapes = ".curve{fill:none;stroke-width:2}.ci{stroke-width:1.5}"
    return f"{shapes}{rules(LIGHT)}@media (prefers-color-scheme:dark){{{rules(DARK)}}}"
