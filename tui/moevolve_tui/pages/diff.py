"""Screen 4, and what Enter opens on a change: what tells two variants apart, and what that did."""

from __future__ import annotations

from moevolve.journal.kinds.variants import what
from moevolve.journal.text import line, lines
from moevolve_tui.drawing import diff, glossary
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.model import RunModel
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.attempts import failures_first, kept, known_verbs, sample_rows
from moevolve_tui.pages.page import Page
from moevolve_tui.pages.variant import (
    MOST_LINES,
    decision_lines,
    decision_of,
    in_order,
    per_skill,
    record_of,
    sources,
)
from moevolve_tui.targets import VariantTarget


class DiffPage(Page):
    """The program's diff, what it did to each skill, whether weights changed."""

    NAME = "Diff"
    NUMBER = 4

    def __init__(self, context: object, pair: tuple[int, int] | None = None) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.fixed = pair
        self.hunks: list[int] = []

    def chosen(self) -> tuple[int, int] | None:
        """Rows of the two variants: named, or the last promotion, or the variant under the cursor with its parent."""
        if self.fixed is not None:
            return self.fixed
        model = self.context.model
        if model is None:
            return None
        variants = model.view.variants
        row = self.context.cursor_row
        if row is None or row >= len(variants) or not variants.parents(row):
            row = self._newest_promoted(model)
        if row is None:
            row = variants.row(model.view.champion)
        parents = variants.parents(row) if row is not None else []
        return (parents[0], row) if parents and row is not None else None

    def _newest_promoted(self, model: RunModel) -> int | None:
        """The newest promoted variant whose program changed, or else the newest promoted one."""
        promoted = [
            row
            for name in list(model.view.champion_history)[1:]
            if (row := model.view.variants.row(name)) is not None
        ]
        programs = [row for row in promoted if model.view.variants.level(row) == "program"]
        chosen = programs or promoted
        return chosen[-1] if chosen else None

    def title(self) -> str:
        pair, model = self.chosen(), self.context.model
        if pair is None or model is None or max(pair) >= len(model.view.variants):
            return "Diff"
        before, after = (line(model.view.variants.name(row)) for row in pair)
        return f"Diff  {before} > {after}"

    def hints(self) -> tuple[str, ...]:
        model = self.context.model
        if self.chosen() is None or model is None:
            return ()
        flipped = () if model.optimises else ("a attempts that flipped",)
        return (*flipped, "[ ] hunks", "u side by side")

    def follows(self, model: RunModel) -> tuple[object, ...]:
        view = model.view
        return self.chosen(), len(view.gates), len(view.changes), view.requests, view.ratings.evaluations

    def build(self, width: int, height: int) -> list[Row]:
        self.hunks = []
        pair = self.chosen()
        if pair is None:
            return text(
                "Nothing was promoted yet; on 3 choose a variant, c compares it with a marked one (m)",
                width,
                "quiet",
            )
        model = self.shown
        before, after = record_of(model, pair[0]), record_of(model, pair[1])
        if before is None or after is None:
            return text("These variants are not on file", width, "quiet")
        fate, rated = model.view.variants.fate(pair[1]), model.optimises
        when = f"{'evaluation' if rated else 'cycle'} {after.cycle:,}"
        head = f"{line(before.variant)} > {line(after.variant)} "
        rows = text(f"{head}{fate}, {when}", width, "head", VariantTarget(pair[1], after.variant))
        rows += text(what(after), width)[:2]
        decision = None if rated else decision_of(model, after.variant)
        if decision is not None:
            # Why comes first: a diff may be long.
            rows += decision_lines(decision, width)
        old, new = sources(model, before), sources(model, after)
        if before.program == after.program:
            rows.append(Row([("program: the same", "quiet")]))
        elif not old or not new:
            rows.append(Row([("program: changed; its source is not on file", "warn")]))
        for path in sorted(set(old) | set(new), key=in_order):
            if old.get(path) != new.get(path):
                rows += self._file(path, old.get(path, ""), new.get(path, ""), width, len(rows))
        if rated:
            rows += evaluations.improved_rows(model, after.variant, width)
            return [*rows, *evaluations.compared_rows(model, *pair, width)]
        if words := glossary.spelled(what(after), known_verbs(model)):
            rows += [rule("In words", width), *text(words, width, "quiet")]
        same = before.weights == after.weights
        weights = line(after.weights, 12)
        words = f"unchanged ({weights})" if same else f"{line(before.weights, 12)} > {weights}, trained"
        rows += [rule("Weights", width), Row(fit([(words, "quiet" if same else "weights")], width))]
        if decision is not None:
            rows += [rule("At the gate, by skill", width), *per_skill(decision, width)]
            flipped = failures_first(
                [each for each in kept(model, variant=after.variant) if each.stage == "gate"]
            )
            rows += [rule(f"Attempts that flipped, {len(flipped)} kept", width), *sample_rows(flipped, width)]
        return rows

    def _file(self, path: str, old: str, new: str, width: int, start: int) -> list[Row]:
        found = diff.hunks(lines(old), lines(new))
        added, removed = diff.counts(found)
        rows = [rule(line(path), width, f"+{added} -{removed}")]
        beside = width >= diff.LEAST and (width >= diff.WIDE) != self.context.other_diff
        for hunk in found:
            self.hunks.append(start + len(rows))
            rows.append(Row([(hunk.head, "quiet")]))
            drawn = diff.side_by_side(hunk.pairs, width) if beside else diff.below(hunk.pairs, width)
            rows += [Row(each) for each in drawn]
            if len(rows) > MOST_LINES:
                return [*rows[:MOST_LINES], Row([("more lines differ than are shown", "quiet")])]
        return rows
