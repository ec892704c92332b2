"""Screen 7: what the guards looked at, refused and raised; what waits for a person."""

from __future__ import annotations

from moevolve.errors import MoevolveError
from moevolve.journal.figures import UNKNOWN, gain
from moevolve.journal.kinds.variants import fate_of
from moevolve.journal.text import line, lines
from moevolve.records import Gated, Guarded, Improved
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.model import RunModel
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.page import Page
from moevolve_tui.pages.variant import decision_of
from moevolve_tui.targets import EntryTarget, VariantTarget


class GuardsPage(Page):
    NAME = "Guards"
    NUMBER = 7

    def follows(self, model: RunModel) -> tuple[object, ...]:
        view = model.view
        return (
            len(view.guards),
            view.cycle,
            len(view.gates),
            len(view.alarms),
            tuple(view.waiting),
            sum(each[0] for each in view.guards.values()),
            view.ratings.evaluations,
        )

    def build(self, width: int, height: int) -> list[Row]:
        model, view = self.shown, self.shown.view
        rows = self._waiting(width)
        rows += text(f"sandbox: {self._walls()}", width, "quiet")
        if model.optimises:
            return [*rows, *evaluations.counts_rows(model, width), *self._decisions(width)]
        spent = UNKNOWN if view.error_spent is None else f"{view.error_spent:.4f}"
        rows.append(
            Row(
                fit(
                    [
                        ("bound on a false promotion so far: ", "quiet"),
                        (spent, "plain"),
                        (f", {len(view.gates)} decisions", "quiet"),
                    ],
                    width,
                )
            )
        )
        rows += [
            rule("Guards", width),
            Row([(f"{'guard':<18} {'checked':>9} {'refused':>8} {'alarms':>7}  newest", "quiet")]),
        ]
        for name, counts in sorted(view.guards.items()):
            seqs = view.checks.get(name, ())
            last = model.entry(seqs[-1]) if seqs else None
            record = last.record if last is not None else None
            words = f"c{record.cycle} {line(record.detail)}" if isinstance(record, Guarded) else ""
            rows.append(
                Row(
                    fit(
                        [
                            (
                                f"{line(name, 18):<18} {counts.checked:>9,} {counts.vetoed:>8,} {counts.alarms:>7,}  ",
                                "bad" if counts.alarms else "warn" if counts.vetoed else "plain",
                            ),
                            (words, "quiet"),
                        ],
                        width,
                    ),
                    EntryTarget(seqs[-1]) if seqs else None,
                )
            )
        if not view.guards:
            rows.append(Row([("no guard has looked yet", "quiet")]))
        rows += self._vetoes(width)
        rows += self._alarms(width)
        return rows

    def _decisions(self, width: int) -> list[Row]:
        """What became of programs that looked better than the champion, newest first."""
        rows: list[Row] = []
        for seq in reversed(self.shown.view.ratings.decisions[-200:]):
            entry = self.shown.entry(seq)
            if entry is not None and isinstance(entry.record, Improved):
                words, tone = evaluations.decision_line(entry.record)
                name = f"{line(entry.record.candidate, 10)} {fate_of(entry.record.decision)}: "
                rows.append(Row(fit([(name, "plain"), (words, tone)], width), EntryTarget(seq)))
        return [rule("Programs that looked better", width), *(rows or [Row([("none", "quiet")])])]

    def _walls(self) -> str:
        folder = self.shown.folder
        try:
            walls = folder.sandbox() if folder is not None else None
        except (MoevolveError, OSError, ValueError):
            walls = None
        if walls is None:
            return f"{UNKNOWN} not noted"
        missing = (
            f"; MISSING: {', '.join(map(line, walls.missing))}" if walls.missing else "; nothing missing"
        )
        return ", ".join(map(line, walls.layers)) + missing

    def _waiting(self, width: int) -> list[Row]:
        model = self.shown
        rows = [rule("Waiting for you", width)]
        for name in model.view.waiting:
            row = model.view.variants.row(name)
            decision = decision_of(model, name)
            figures = f"{gain(decision.gain)} on {decision.n:,} pairs" if decision else ""
            words = model.words(row) if row is not None else ""
            rows.append(
                Row(
                    fit(
                        [
                            (f"{line(name, 12)} ", "head"),
                            (f"{figures} ", "good"),
                            (words, "plain"),
                            ("   A approve  R reject", "mark"),
                        ],
                        width,
                    ),
                    VariantTarget(row, name) if row is not None else None,
                )
            )
        return rows if len(rows) > 1 else [Row([("waiting for you: nothing", "quiet")])]

    def _vetoes(self, width: int) -> list[Row]:
        rows: list[Row] = []
        for seq in reversed(self.shown.view.gates[-500:]):
            entry = self.shown.entry(seq)
            if (
                entry is None
                or not isinstance(entry.record, Gated)
                or not (entry.record.vetoes or entry.record.guards)
            ):
                continue
            record = entry.record
            against = ", ".join(line(each, 24) for each in [*record.vetoes, *record.guards])
            rows.append(
                Row(
                    fit(
                        [
                            (
                                f"c{record.cycle} {line(record.candidate, 10)} {gain(record.gain)} n={record.n:,} ",
                                "plain",
                            ),
                            (f"{fate_of(record.decision)}: {against}", "warn"),
                        ],
                        width,
                    ),
                    EntryTarget(seq),
                )
            )
            if len(rows) >= 20:
                break
        return [
            rule("Candidates that skills or guards stood against", width),
            *(rows or [Row([("none", "quiet")])]),
        ]

    def _alarms(self, width: int) -> list[Row]:
        rows: list[Row] = []
        for seq in reversed(self.shown.view.alarms[-50:]):
            entry = self.shown.entry(seq)
            if entry is not None and isinstance(entry.record, Guarded):
                rows += alarm_rows(entry.record, width, seq)
        return [rule("Alarms, newest first", width), *(rows or [Row([("none", "quiet")])])]


def alarm_rows(record: Guarded, width: int, seq: int) -> list[Row]:
    """An alarm with the attempts that caused it."""
    rows = text(
        f"c{record.cycle} {line(record.guard)} {line(record.variant)}: {line(record.detail)}",
        width,
        "bad",
        EntryTarget(seq),
    )
    for each in record.attempts:
        rows += text(
            f"{line(each.task)}: {lines(each.prompt)} > {lines(each.answer)}", width, "quiet", indent=2
        )
    return rows
