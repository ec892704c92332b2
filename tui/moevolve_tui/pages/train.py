"""Screen 5: learning stages: loss, gradient, what was right, a policy's ratios, the load of every expert."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from moevolve.journal.drawing.chart import Series, chart_lines
from moevolve.journal.figures import UNKNOWN, amount, counted
from moevolve.journal.intervals import wilson
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve.records import Trained
from moevolve_tui.drawing.rows import Row, beside, fit, rule, text
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import CycleTarget

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

POLICY = ("ratio", "largest_ratio", "clipped", "drift", "entropy", "kl", "age")
"""Figures of a policy's loss, in the order in which they are shown; any other follows."""


class TrainPage(Page):
    NAME = "Train"
    NUMBER = 5

    def title(self) -> str:
        return f"Train  l: {'logarithmic' if self.context.log_axis else 'linear'} axis"

    def follows(self, model: RunModel) -> tuple[object, ...]:
        view = model.view
        return (
            len(view.losses),
            len(view.practice.cycles),
            len(view.variants),
            view.cycle,
        )

    def build(self, width: int, height: int) -> list[Row]:
        model, view = self.shown, self.shown.view
        rows: list[Row] = []
        last = self._last()
        if last is None:
            never = (
                "Nothing was trained yet" if model.status == "running" else "Nothing was trained in this run"
            )
            if model.optimises:
                # No chart of nothing: this run has no weights.
                return text(
                    "An evaluator scores programs in this run: there are no weights, and nothing is trained",
                    width,
                    "quiet",
                )
            rows += text(never, width, "quiet")
        else:
            rows += text(
                f"cycle {last.cycle}, step {last.step:,}/{last.steps:,}, loss {last.loss:.4g}, "
                f"gradient {last.gradient_norm:.3g}, rate {last.learning_rate:.3g}, "
                f"{amount(view.trained)} tokens trained",
                width,
                "head",
                CycleTarget(last.cycle),
            )
        if recipe := view.recipe:
            rows += text(
                f"recipe: rate {recipe.learning_rate:g}, {recipe.steps} steps of {recipe.batch}, recent {recipe.recent:g}, "
                f"program share {recipe.program_share:g}, focus {recipe.focus:g}",
                width,
                "quiet",
            )
        rows += self._charts(width, max(6, min(14, height // 3)))
        if last is not None:
            rows += self._policy(last, width)
            rows += experts(last, width)
        return rows

    def _last(self) -> Trained | None:
        losses = self.shown.view.losses
        entry = self.shown.entry(losses.entries[-1]) if len(losses) else None
        return entry.record if entry is not None and isinstance(entry.record, Trained) else None

    def _charts(self, width: int, height: int) -> list[Row]:
        view, log = self.shown.view, self.context.log_axis
        steps = [float(place) for place in range(len(view.losses))]
        loss = [Series("loss", list(zip(steps, map(float, view.losses.values), strict=True)))]
        norm = [Series("gradient", list(zip(steps, map(float, view.losses.norms), strict=True)), "warn")]
        rates: list[tuple[Literal["direct", "program"], Tone]] = [
            ("direct", "weights"),
            ("program", "program"),
        ]
        right = [_rate(view.practice.rates(source), source, tone) for source, tone in rates]
        cycle = self.context.cursor_cycle
        place = None if cycle is None else _places(view, cycle).start
        axis = ", log" if log else ""
        blocks: list[tuple[str, Callable[[int], list[Row]]]] = [
            (f"loss{axis}, by record", lambda w: _chart(loss, w, height, log, place)),
            (f"gradient norm{axis}", lambda w: _chart(norm, w, height, log, place)),
            (
                "right on train tasks by cycle: bare w, program p",
                lambda w: _chart(right, w, height, False, cycle),
            ),
        ]
        across = 3 if width >= 110 else 2 if width >= 70 else 1
        rows: list[Row] = []
        for start in range(0, len(blocks), across):
            part = blocks[start : start + across]
            size = (width - 2 * (len(part) - 1)) // len(part)
            drawn = [[rule(name, size), *draw(size)] for name, draw in part]
            merged, merged_width = drawn[0], size
            for block in drawn[1:]:
                merged = beside(merged, block, merged_width, size)
                merged_width += size + 2
            rows += merged
        return rows if cycle is None else [Row(fit(_reading(view, cycle), width)), *rows]

    def _policy(self, last: Trained, width: int) -> list[Row]:
        if not last.policy:
            return [
                Row(
                    fit(
                        [
                            ("ratio, clipping, drift, entropy: ", "quiet"),
                            (f"{UNKNOWN} a supervised loss has none", "quiet"),
                        ],
                        width,
                    )
                )
            ]
        names = [name for name in POLICY if name in last.policy]
        names += sorted(set(last.policy) - set(names))
        words = "  ".join(f"{line(name, 20).replace('_', ' ')} {last.policy[name]:.4g}" for name in names)
        return [rule("Policy, means over tokens", width), *text(words, width)]


def _rate(rows: list[tuple[int, int, int]], name: str, tone: Tone) -> Series:
    found = [(cycle, wilson(right, tried)) for cycle, right, tried in rows if tried]
    return Series(
        name,
        [(float(cycle), each.mean) for cycle, each in found],
        tone,
        [(each.low, each.high) for _, each in found],
    )


def _chart(series: list[Series], width: int, height: int, log: bool, cursor: float | None) -> list[Row]:
    return [Row(each) for each in chart_lines(series, width, height, log=log, cursor=cursor)]


def _places(view: RunView, cycle: int) -> range:
    """Where a cycle's progress of training stands."""
    return range(bisect_left(view.losses.cycles, cycle), bisect_right(view.losses.cycles, cycle))


def _reading(view: RunView, cycle: int) -> list[tuple[str, Tone]]:
    """The values at the cursor."""
    words = []
    if places := _places(view, cycle):
        loss, norm = view.losses.values[places[-1]], view.losses.norms[places[-1]]
        words.append(f"loss {loss:.4g}, gradient {norm:.3g}, the last of {counted(len(places), 'record')}")
    sources: list[tuple[str, Literal["direct", "program"]]] = [
        ("bare policy", "direct"),
        ("program", "program"),
    ]
    for name, source in sources:
        rows = [(right, tried) for at, right, tried in view.practice.rates(source) if at == cycle]
        if tried := sum(each[1] for each in rows):
            words.append(f"{name} right in {sum(each[0] for each in rows):,} of {tried:,}")
    return [(f"cycle {cycle}: ", "mark"), ("; ".join(words) or "nothing was tried", "plain")]


def experts(last: Trained, width: int) -> list[Row]:
    """Share of routed tokens that each expert of a layer took, in units of an even share; 0.00 is a dead one."""
    if not last.expert_load:
        return [Row([("expert load: – this model has no experts, or none was recorded", "quiet")])]
    count = max(len(layer) for layer in last.expert_load)
    per = max(1, (width - 6) // 5)
    rows = [
        rule(
            f"Expert load, cycle {last.cycle} step {last.step}: share x {count} (1.00 is even, 0.00 dead)",
            width,
        )
    ]
    for number, layer in enumerate(last.expert_load):
        for start in range(0, len(layer), per):
            cells = layer[start : start + per]
            spans: list[tuple[str, Tone]] = [(f"{number if start == 0 else '':>4}  ", "quiet")]
            for share in cells:
                load = share * len(layer)
                tone: Tone = "bad" if load < 0.05 else "warn" if load < 0.5 or load > 2 else "plain"
                mark = "!" if load < 0.05 else " "
                spans.append((f"{load:.2f}{mark}" if load < 9.995 else f"{load:.1f}{mark}", tone))
            rows.append(Row(fit(spans, width)))
    if last.expert_gradient:
        norms = [norm for layer in last.expert_gradient for norm in layer]
        if norms:
            rows.append(
                Row(
                    fit(
                        [
                            (
                                f"gradient of experts: {min(norms):.3g} to {max(norms):.3g}, n={len(norms)}",
                                "quiet",
                            )
                        ],
                        width,
                    )
                )
            )
    return rows
