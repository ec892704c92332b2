"""Screen 1: is it better and how sure; what is being done; what changed; what next."""

from __future__ import annotations

from moevolve.journal import decisions
from moevolve.journal.drawing.curve import curve_lines
from moevolve.journal.figures import amount, duration, evidence, gain, money, score
from moevolve.journal.kinds import Tone
from moevolve.journal.proposers import earned
from moevolve.journal.text import line
from moevolve.records import Controlled, Gated, Improved, RolledBack
from moevolve_tui.drawing.rows import Row, beside, fit, rule, text, width_of
from moevolve_tui.drawing.words import next_steps
from moevolve_tui.model import RunModel
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.page import Page
from moevolve_tui.pages.runs import overlaid
from moevolve_tui.targets import ActionTarget, EntryTarget, PageTarget, VariantTarget

ACTIONS = {"p": "pause", "P": "stop", "A": "approve", "R": "reject", "h": "report", "v": "serve"}


class OverviewPage(Page):
    NAME = "Overview"
    NUMBER = 1

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self._curve: tuple[tuple[object, ...], list[Row]] | None = None

    def title(self) -> str:
        return "Overview"

    def hints(self) -> tuple[str, ...]:
        if self.context.model is not None and self.context.model.optimises:
            return ()
        return "◆ sealed", "━ dev", "░ 95 %"

    def build(self, width: int, height: int) -> list[Row]:
        if width < 72:
            right = width
            blocks = [
                *self._score(width, max(7, height // 2)),
                *self._now(right),
                *self._changed(width, 4),
                *self._next(width),
                *self._worked(right, 4),
                *self._spent(right),
            ]
            return [*blocks, *self._last(width, 4)]
        right = max(34, min(60, width * 2 // 5))
        left = width - right - 2
        tail = max(4, min(12, height // 4))
        changes = max(1, min(len(self.shown.view.changes), (height - tail) // 3))
        first = self._score(left, max(7, height - tail - changes - 1))
        second = [*self._now(right), *self._spent(right)]
        second += self._worked(right, max(2, height - tail - changes - len(second) - 3))
        return [
            *beside(first, second, left, right),
            *self._changed(width, changes),
            *self._last(width, max(2, tail - 2)),
            *self._next(width),
        ]

    def depends(self) -> tuple[object, ...]:
        return *super().depends(), self._overlaid()

    def _overlaid(self) -> tuple[int, ...] | None:
        """How many scores each run has whose curve lies over this one's."""
        marked = self.context.session.marked_runs() if self.context.overlay else None
        return None if marked is None else tuple(len(each.view.curve) for each in marked)

    def _score(self, width: int, height: int) -> list[Row]:
        model = self.shown
        view = model.view
        key = (
            id(view),
            len(view.curve),
            len(view.promotions),
            view.cycle,
            model.status,
            width,
            height,
            self._overlaid(),
            self.context.changes,
        )
        if model.optimises:
            return evaluations.champion_rows(model, width, height)
        if self._curve is None or self._curve[0] != key:
            others = self.context.session.marked_runs() if self.context.overlay else []
            lines = curve_lines(
                view,
                width,
                height,
                ended=model.status in ("finished", "failed", "stopped", "deleted"),
                others=[each for each in overlaid(others) if each.points],
                cursor=self.context.cursor_cycle,
            )
            rows = [Row(each) for each in lines]
            if self.context.cursor_cycle is not None:
                rows.append(Row(fit(self._reading(self.context.cursor_cycle), width)))
            self._curve = key, rows
        return list(self._curve[1])

    def _reading(self, cycle: int) -> list[tuple[str, Tone]]:
        """The values at the cursor."""
        found = [each for each in self.shown.view.curve if each.cycle == cycle]
        words = "; ".join(
            f"{each.split} {score(each.score.mean, 3)} [{score(each.score.low)}, {score(each.score.high)}] "
            f"n={each.score.n:,} {line(each.variant, 8)}"
            for each in found
        )
        return [(f"cycle {cycle}: ", "mark"), (words or "no score", "plain")]

    def _now(self, width: int) -> list[Row]:
        model = self.shown
        gate = model.gate
        if gate is None:
            words = model.stage if model.status == "running" else model.status
            return [rule("Now", width), *text(line(words) or "–", width, "plain")[:3]]
        needed = -_log(gate.alpha)
        full = max(0, min(12, round(12 * gate.evidence / needed))) if needed > 0 else 0
        harmed = (
            f"harmed: {', '.join(line(each, 20) for each in gate.harmed)}"
            if gate.harmed
            else "no skill shown harmed"
        )
        return [
            rule(f"Now: gate, {gate.level}", width),
            Row(
                fit(
                    [(f"{line(gate.candidate, 12)} against champion {line(gate.champion, 12)}", "plain")],
                    width,
                )
            ),
            Row(
                fit(
                    [
                        (
                            f"{gate.n:,} of {gate.most:,} pairs  {gate.wins} won  {gate.losses} lost  {gain(gate.gain)}",
                            "plain",
                        )
                    ],
                    width,
                )
            ),
            Row(
                fit(
                    [
                        ("evidence ", "quiet"),
                        ("━" * full, "good"),
                        ("─" * (12 - full), "faint"),
                        (f" {evidence(gate.evidence)}", "plain"),
                    ],
                    width,
                )
            ),
            Row(fit([(f"needs {evidence(needed)}; {harmed}", "bad" if gate.harmed else "quiet")], width)),
        ]

    def _changed(self, width: int, most: int) -> list[Row]:
        model = self.shown
        rows = [rule("What changed", width, "enter: the diff")]
        for seq in list(model.view.changes)[-most:][::-1]:
            record = decisions.behind(model.view, model.entry, seq)
            if isinstance(record, Gated):
                row = model.view.variants.row(record.candidate)
                words = model.words(row) if row is not None else ""
                target = VariantTarget(row, record.candidate) if row is not None else None
                rows.append(
                    Row(
                        fit(
                            [
                                (f"c{record.cycle} ", "quiet"),
                                (f"{record.level} {line(record.candidate, 10)} ", record.level),
                                (f"{gain(record.gain)} n={record.n:,} ", "good"),
                                (words, "plain"),
                            ],
                            width,
                        ),
                        target,
                    )
                )
            elif isinstance(record, Improved):
                row = model.view.variants.row(record.candidate)
                decided, tone = evaluations.decision_line(record)
                rows.append(
                    Row(
                        fit(
                            [
                                (f"{record.evaluation:,} ", "quiet"),
                                (f"{line(record.candidate, 10)} ", "program"),
                                (f"{decided} ", tone),
                                (model.words(row) if row is not None else "", "plain"),
                            ],
                            width,
                        ),
                        VariantTarget(row, record.candidate) if row is not None else EntryTarget(seq),
                    )
                )
            elif isinstance(record, (Controlled, RolledBack)):
                rows.append(Row(fit([(model.line(seq).text, "warn")], width), EntryTarget(seq)))
        if len(rows) == 1:
            rows.append(
                Row(
                    [
                        (
                            "nothing was promoted yet"
                            if model.status == "running"
                            else "nothing was promoted",
                            "quiet",
                        )
                    ]
                )
            )
        return rows

    def _worked(self, width: int, most: int) -> list[Row]:
        """What became of the candidates of each operator, and of trained weights."""
        view = self.shown.view
        found: list[tuple[str, int, int, int]] = [
            (name, each.made, each.passed, each.promoted) for name, each in earned(view.accounts.operators)
        ]
        if tried := view.proposed["weights"]:
            accepted, decided = view.decisions["weights"]
            found.append(("trained weights", tried, decided, accepted))
            found.sort(key=lambda each: -each[3])
        passed = "scored" if self.shown.optimises else "passed"
        name = max(10, width - 18)
        rows = [rule(f"Worked: tried, {passed}, promoted", width)]
        for operator, made, through, promoted in found[: max(1, most)]:
            words = f"{line(operator, name):<{name}} {made:>5} {through:>5} {promoted:>5}"
            rows.append(Row(fit([(words, "good" if promoted else "plain")], width)))
        return rows if found else [rows[0], Row([("no candidate yet", "quiet")])]

    def _spent(self, width: int) -> list[Row]:
        view = self.shown.view
        if self.shown.optimises:
            return evaluations.counts_rows(self.shown, width)
        parts = [f"{amount(view.generated)} tokens drawn", f"{amount(view.trained)} trained"]
        if view.spent.bills and view.spent.money is not None:
            parts.append(f"{money(view.spent.money)} {line(view.spent.currency)}")
        rows = [rule("Spent", width), *text(", ".join(parts), width)]
        refused = sum(each.vetoed for each in view.guards.values())
        alarms = sum(each.alarms for each in view.guards.values())
        tone: Tone = "bad" if alarms else "quiet"
        if view.guards:
            rows.append(
                Row(
                    fit([(f"guards: {refused:,} refused, {alarms} alarms", tone)], width),
                )
            )
        return rows

    def _last(self, width: int, most: int) -> list[Row]:
        model = self.shown
        rows = [rule("Last", width)]
        for seq in range(max(0, model.entries - most + 1), model.entries):
            found = model.line(seq)
            rows.append(
                Row(
                    fit([(f"{duration(found.at):>7} ", "quiet"), (found.text, found.tone)], width),
                    EntryTarget(seq),
                )
            )
        return rows

    def _next(self, width: int) -> list[Row]:
        return next_rows(self.shown, width)


def next_rows(model: RunModel, width: int) -> list[Row]:
    """What may be done next, one row that names the keys."""
    steps = next_steps(model)
    rows: list[list[tuple[str, Tone]]] = [[("Next: ", "head")]]
    for key, words in steps:
        step: list[tuple[str, Tone]] = [(key, "mark"), (f" {words}", "plain")]
        if len(rows[-1]) > 1:
            gap: list[tuple[str, Tone]] = [("   ", "plain")]
            if width_of([*rows[-1], *gap, *step]) > width:
                rows.append([("      ", "plain")])
            else:
                step = gap + step
        rows[-1] += step
    key, words = steps[0]
    target = PageTarget(int(key), words) if key.isdigit() else ActionTarget(ACTIONS[key], words)
    return [Row(fit(spans, width), None if index else target) for index, spans in enumerate(rows)]


def _log(value: float) -> float:
    from math import inf, log

    return log(value) if value > 0 else -inf
