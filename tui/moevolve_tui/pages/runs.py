"""Screen 0: every run of the session with its state, score and gain; marked ones drawn over one another."""

from __future__ import annotations

import json
import math

from moevolve.journal.drawing.chart import Series, chart_lines
from moevolve.journal.figures import UNKNOWN, gain, score
from moevolve.journal.intervals import Z
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve_tui.drawing.rows import Row, fit, middle, rule, text
from moevolve_tui.drawing.words import STATUS, difference, half, rating, sureness
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import ActionTarget, RunTarget

TONES: tuple[Tone, ...] = ("curve", "sealed", "weights", "program", "warn", "good")
"""Tones of marked runs, one after the other; each has its letter as well."""


class RunsPage(Page):
    NAME = "Runs"
    NUMBER = 0

    def title(self) -> str:
        marked = len(self.context.session.marked)
        return f"Runs  {len(self.context.session.runs)}" + (f", {marked} marked" if marked else "")

    def depends(self) -> tuple[object, ...]:
        session = self.context.session
        return (
            self.context.changes,
            id(session.current),
            *((model.view.entries, model.status, model.fault, model.loading) for model in session.runs),
        )

    def build(self, width: int, height: int) -> list[Row]:
        session = self.context.session
        if not session.runs:
            places = ", ".join(str(root) for root in session.roots) or "the folders named"
            return [
                *text(f"No run in {places} yet.", width, "head"),
                Row([]),
                Row(
                    [("n  start the quickstart here (some minutes, no network)", "plain")],
                    ActionTarget("new_run", "quickstart"),
                ),
                *text("Or in another terminal: moevolve run quickstart", width, "quiet"),
            ]
        name = max(12, min(36, width - 64))
        rows = [
            Row(
                fit(
                    [
                        (
                            f"  {'run':<{name}} {'state':<11} {'arm':<8} {'seed':>5} {'before > now':<22} gain",
                            "quiet",
                        )
                    ],
                    width,
                )
            )
        ]
        for model in session.newest():
            rows.append(Row(fit(self._run(model, name), width), RunTarget(model.path)))
        return [*rows, *self._marked(width, max(6, height - len(rows) - 3))]

    def _run(self, model: RunModel, name: int) -> list[tuple[str, Tone]]:
        session, view = self.context.session, model.view
        dot, tone = STATUS[model.status]
        state: str = "loading" if model.loading else model.status
        if model.status == "running" and model.optimises:
            state = f"eval. {view.ratings.evaluations}"
        if model.status == "running" and view.cycle:
            state = f"cycle {view.cycle}" + (f"/{view.planned}" if view.planned else "")
        mark = self.letter(model)
        arm = view.started.arm if view.started else ""
        seed = str(view.started.seed) if view.started else ""
        spans: list[tuple[str, Tone]] = [
            (f"{mark} ", "mark"),
            (f"{middle(model.name, name):<{name}} ", "head" if model is session.current else "plain"),
            (f"{dot} {state[:9]:<9} ", tone),
            (f"{arm[:8]:<8} {seed[:5]:>5} ", "quiet"),
        ]
        if model.fault:
            return [*spans, (model.fault, "bad")]
        if model.optimises:
            return [*spans, *self._rated(model)]
        split = "sealed" if view.point("sealed", newest=True) else "dev"
        before, now = view.point(split), view.point(split, newest=True)
        found = view.sealed_gain if split == "sealed" else view.dev_gain
        if before is None:
            before, split = view.point("sealed"), "sealed"
        scores = UNKNOWN if before is None else score(before.score.mean)
        if now is not None:
            scores += f" > {half(now.score)}"
        change, change_tone = UNKNOWN, "quiet"
        if found is not None:
            low, high = found.interval
            change, change_tone = (
                f"{gain(found.gain)} ±{score((high - low) / 2)}",
                "good" if low > 0 else "bad" if high < 0 else "plain",
            )
        return [*spans, (f"{scores:<15} ", "plain"), (f"{split:<7}", "quiet"), (change, change_tone)]  # type: ignore[list-item]

    def _rated(self, model: RunModel) -> list[tuple[str, Tone]]:
        ratings = model.view.ratings
        first, now = rating(ratings.first), rating(ratings.champion)
        scores = f"{first} > {now}" if ratings.promoted else first
        change = UNKNOWN
        if ratings.promoted and ratings.first is not None and ratings.champion is not None:
            change = difference(ratings.champion - ratings.first)
        sure = f", {sureness(model)}" if ratings.promoted else ""
        return [(f"{scores:<15} ", "plain"), ("score  ", "quiet"), (f"{change}{sure}", "plain")]

    def letter(self, model: RunModel) -> str:
        """The letter of a marked run, a space for any other."""
        marked = self.context.session.marked_runs()
        return chr(97 + marked.index(model) % 26) if model in marked else " "

    def _marked(self, width: int, height: int) -> list[Row]:
        marked = self.context.session.marked_runs()
        hint = "space marks runs to draw their curves over one another, c compares settings"
        rows = [Row([]), *([] if marked else text(hint, width, "quiet"))]
        shown = marked or [
            model for model in self.context.session.runs if model is self.context.session.current
        ]
        curves = overlaid([model for model in shown if not model.optimises])
        if not marked and not any(each.points for each in curves):
            return rows
        whose = "Marked runs" if marked else line(shown[0].name, 40)
        rows.append(rule(f"{whose}, dev score by cycle", width))
        legend: list[tuple[str, Tone]] = [(f"{each.name}  ", each.tone) for each in curves]
        chart = chart_lines(curves, width, min(16, max(7, height - 5)), message="no dev score yet", log=False)
        rows += [Row(each) for each in chart]
        rows += [Row(fit(legend, width))] if marked else []
        return [*rows, *differing(marked, width)]


def overlaid(models: list[RunModel]) -> list[Series]:
    """The dev curve of each run, and of runs that differ in their seed alone their mean with its band."""
    curves: list[Series] = []
    for index, model in enumerate(models):
        points = [each for each in model.view.curve if each.split == "dev"]
        curves.append(
            Series(
                f"{chr(97 + index % 26)} {line(model.name, 24)}",
                [(float(each.cycle), each.score.mean) for each in points],
                TONES[index % len(TONES)],
            )
        )
    for key, group in _alike(models).items():
        if len(group) > 1 and (mean := mean_curve(group)) is not None:
            curves.insert(0, Series(f"mean of {len(group)} seeds, {key}", mean[0], "mark", mean[1]))
    return curves


def _alike(models: list[RunModel]) -> dict[str, list[RunModel]]:
    """Runs by their settings without the seed."""
    groups: dict[tuple[str, str], list[RunModel]] = {}
    for model in models:
        if started := model.view.started:
            settings = {
                name: value
                for name, value in _settings(model).items()
                if name not in ("seed", "optimise.seed")
            }
            groups.setdefault((started.arm, json.dumps(settings, sort_keys=True)), []).append(model)
    return {f"arm {arm}": group for (arm, _), group in groups.items()}


def mean_curve(models: list[RunModel]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]] | None:
    """The mean over runs at every cycle that each has a dev score of, with the 95 % interval of that mean (normal)."""
    tables = [
        {
            each.cycle: each.score.mean
            for each in model.view.curve
            if each.split == "dev" and math.isfinite(each.score.mean)
        }
        for model in models
    ]
    shared = sorted(set.intersection(*map(set, tables)))
    points, bands = [], []
    for cycle in shared:
        values = [table[cycle] for table in tables]
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        half_width = Z * spread / math.sqrt(len(values))
        points.append((float(cycle), mean))
        bands.append((mean - half_width, mean + half_width))
    return (points, bands) if points else None


def differing(models: list[RunModel], width: int) -> list[Row]:
    """The settings in which runs differ, one row each."""
    if len(models) < 2:
        return []
    tables = [_settings(model) for model in models]
    keys = sorted({key for table in tables for key in table})
    rows = [rule("Settings that differ", width)]
    cell = max(8, (width - 28) // len(models) - 1)
    for key in keys:
        values = [table.get(key, UNKNOWN) for table in tables]
        if len(set(values)) > 1:
            cells = "".join(f"{line(value, cell):<{cell}} " for value in values)
            rows.append(Row(fit([(f"{line(key, 27):<28}", "quiet"), (cells, "plain")], width)))
    if len(rows) == 1:
        rows.append(Row([("none", "quiet")]))
    return rows


def _settings(model: RunModel) -> dict[str, str]:
    """Dotted setting -> its value as JSON."""
    started = model.view.started
    found: dict[str, str] = {}
    if started is None:
        return found

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), each)
        else:
            found[prefix] = json.dumps(value)

    try:
        walk("", json.loads(started.config))
    except ValueError:
        return found
    return found
