"""Charts as SVG elements that stand alone: no script, no font from elsewhere, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

from moevolve.records import Entry, Trained
from moevolve.report.sentences import plain
from moevolve.report.summary import CurvePoint, SkillFigures

ElementTree.register_namespace("", "http://www.w3.org/2000/svg")

FONT = "system-ui, sans-serif"
STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="#57606a",
    foreground_strong="#24292f",
    foreground_subtle="#8b949e",
    guide_stroke_color="#d8dee4",
    major_guide_stroke_color="#d8dee4",
    colors=("#1f6feb", "#1a7f37", "#bf8700"),
    font_family=FONT,
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    title_font_size=15,
    stroke_width="2",
)


def scores(curve: Sequence[CurvePoint]) -> str:
    """The dev curve and the sealed scores by cycle, each point with its 95 % interval."""
    cycles = sorted({point.cycle for point in curve})
    chart = _chart(pygal.Line, "Score by cycle, with 95 % intervals", range=_range(curve), show_dots=True)
    chart.x_labels = [str(cycle) for cycle in cycles]
    for split, name in (("dev", "dev tasks, fresh each cycle"), ("sealed", "sealed tasks, before and after")):
        # Of two scores of one split and cycle the later one counts.
        points = {point.cycle: point for point in curve if point.split == split}
        if points:
            # Nothing was measured between the two sealed scores: no line leads from one to the other.
            values = [_point(points.get(cycle)) for cycle in cycles]
            chart.add(name, values, stroke=split == "dev", dots_size=3 if split == "dev" else 5)
    return _render(chart, "scores")


def skills(figures: Mapping[str, SkillFigures]) -> str:
    """Each skill's score before and after."""
    chart = _chart(
        pygal.HorizontalBar, "Skills before and after", range=(0, 1), height=90 + 34 * max(1, len(figures))
    )
    # The chart grows upwards; the first skill belongs at the top.
    rows = list(figures.items())[::-1]
    chart.x_labels = [plain(path) for path, _ in rows]
    chart.add("before", [figure.initial for _, figure in rows])
    chart.add("after", [figure.final for _, figure in rows])
    return _render(chart, "skills")


def training(entries: Sequence[Entry]) -> str | None:
    """Training loss over all learning stages; None where nothing was trained."""
    losses = [entry.record for entry in entries if isinstance(entry.record, Trained)]
    if not losses:
        return None
    chart = _chart(pygal.Line, "Training loss", show_dots=len(losses) < 60)
    chart.x_labels = [f"{record.cycle}" if record.step == record.steps else "" for record in losses]
    chart.x_title = "cycle, at its last step"
    chart.add("loss", [record.loss for record in losses])
    return _render(chart, "training")


def _chart(kind: type[pygal.graph.graph.Graph], title: str, **options: object) -> pygal.graph.graph.Graph:
    defaults: dict[str, object] = {
        "title": title,
        "style": STYLE,
        "js": [],
        "width": 860,
        "height": 340,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 2,
        "margin": 12,
        "print_values": False,
        "max_scale": 8,
    }
    return kind(**(defaults | options))


def _point(point: CurvePoint | None) -> dict[str, object] | None:
    if point is None:
        return None
    return {"value": point.score, "ci": {"low": point.low, "high": point.high}}


def _range(curve: Sequence[CurvePoint]) -> tuple[float, float]:
    if not curve:
        return 0.0, 1.0
    low = min(point.low for point in curve)
    high = max(point.high for point in curve)
    return max(0.0, int(low * 10) / 10), min(1.0, (int(high * 10) + 1) / 10)


def _render(chart: pygal.graph.graph.Graph, name: str) -> str:
    # pygal names the picture at random, and writes a script and comments with the date into it.
    chart.uuid = name
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in ("script", ElementTree.Comment)]:
            parent.remove(child)
    return ElementTree.tostring(root, encoding="unicode")
