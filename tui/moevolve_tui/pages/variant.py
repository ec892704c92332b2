"""A variant: where it comes from, what it changes, how it fared, its attempts; its source."""

from __future__ import annotations

import math

from moevolve.errors import MoevolveError
from moevolve.journal import decisions
from moevolve.journal.figures import counted, evidence, gain, needed, score
from moevolve.journal.kinds import Tone
from moevolve.journal.kinds.variants import fate_of, what
from moevolve.journal.programs import program_files
from moevolve.journal.text import line, lines
from moevolve.records import Gated, VariantAdded
from moevolve_tui.drawing.diff import numbered
from moevolve_tui.drawing.glossary import spelled
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.drawing.words import FATES
from moevolve_tui.model import RunModel
from moevolve_tui.pages import evaluations
from moevolve_tui.pages.attempts import kept, known_verbs, sample_rows
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import (
    ActionTarget,
    CycleTarget,
    DiffTarget,
    EntryTarget,
    SkillTarget,
    VariantTarget,
)

MOST_LINES = 20_000


def in_order(path: str) -> tuple[bool, str]:
    """Key by which files of a program are shown: first the one that answers."""
    return path != "solve.py", path


def record_of(model: RunModel, row: int) -> VariantAdded | None:
    entry = model.entry(model.view.variants.entry(row)) if 0 <= row < len(model.view.variants) else None
    return entry.record if entry is not None and isinstance(entry.record, VariantAdded) else None


def decision_of(model: RunModel, name: str) -> Gated | None:
    """The gate's newest decision about a variant."""
    return decisions.decision_about(model.view, model.entry, name)


def sources(model: RunModel, record: VariantAdded) -> dict[str, str]:
    """A variant's source files; empty where they are not on file."""
    if model.folder is None:
        return {}
    try:
        return program_files(model.folder, record.program)
    except (MoevolveError, OSError, ValueError):
        return {}


def per_skill(decision: Gated, width: int) -> list[Row]:
    """The gate's paired difference of each skill, with how many pairs it is of."""
    rows = []
    for path, value in sorted(decision.skills.items(), key=lambda each: -each[1]):
        pairs = sum(len(each.candidate) for each in decision.pairs if each.skill == path and not each.best)
        size = round(12 * min(1.0, 2 * abs(value))) if math.isfinite(value) else 0
        bound = f" at least {gain(decision.bounds[path], 2)}" if path in decision.bounds else ""
        veto = "  stands against it" if path in decision.vetoes else ""
        tone: Tone = "bad" if veto else "plain"
        rows.append(
            Row(
                fit(
                    [
                        (f"  {line(path, 26):<26} {gain(value)} ", "plain"),
                        (f"{('+' if value >= 0 else '-') * size:<12} ", "quiet"),
                        (f"n={pairs}" if pairs else "", "quiet"),
                        (f"{bound}{veto}", tone),
                    ],
                    width,
                ),
                SkillTarget(path),
            )
        )
    return rows


def decision_lines(decision: Gated, width: int) -> list[Row]:
    """What the gate decided and on what."""
    words = f"{fate_of(decision.decision)}: {gain(decision.gain)} on {decision.n:,} pairs"
    words += f", {decision.wins} won, {decision.losses} lost"
    rows = text(words, width, "head")
    evident = (
        f"evidence {evidence(decision.evidence)}, needed {needed(decision.alpha)}"
        if decision.alpha > 0
        else ""
    )
    return rows + text(f"{evident}; {line(decision.reason)}", width, "quiet")


def decision_rows(decision: Gated, width: int) -> list[Row]:
    """The gate's decision with its figures by skill."""
    rows = [rule("At the gate", width), *decision_lines(decision, width)]
    return [*rows, *per_skill(decision, width)]


class VariantPage(Page):
    NAME = "Variant"

    def __init__(self, context: object, row: int) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.row = row

    def title(self) -> str:
        return (
            f"Variant  {line(self.context.model.view.variants.name(self.row)) if self.context.model else ''}"
        )

    def build(self, width: int, height: int) -> list[Row]:
        model = self.shown
        record = record_of(model, self.row)
        if record is None:
            return text("This variant is not on file", width, "quiet")
        variants = model.view.variants
        rated = model.optimises
        when = "evaluation" if rated else "cycle"
        name, fate = line(record.variant), variants.fate(self.row)
        mark, tone = FATES[fate]
        crowned = ", champion" if record.variant == model.view.champion else ""
        rows = [
            Row(
                fit(
                    [
                        (f"{mark} {name} ", "head"),
                        (f"{fate}{crowned}", tone),
                        (f"  {record.level}, {when} {record.cycle:,}", "quiet"),
                    ],
                    width,
                ),
                EntryTarget(variants.entry(self.row)) if rated else CycleTarget(record.cycle),
            ),
            *text(what(record) or "as shipped", width),
        ]
        if words := spelled(what(record), {} if rated else known_verbs(model)):
            rows += text(words, width, "quiet")
        for place, parent in enumerate(variants.parents(self.row)):
            words = "made from" if place == 0 else "its other half from"
            rows.append(
                Row(
                    [(f"{words} ", "quiet"), (line(variants.name(parent)), "plain")],
                    VariantTarget(parent, variants.name(parent)),
                )
            )
        if not rated:
            rows += self._screened(record, width)
        parents = variants.parents(self.row)
        if parents:
            rows.append(
                Row(
                    [("Diff to what it was made from (d)", "curve")],
                    DiffTarget(parents[0], self.row, record.variant),
                )
            )
        rows.append(Row([("Source (x)", "curve")], ActionTarget("source", record.variant)))
        descendants, promoted = self._clade()
        rows.append(Row([(f"descendants {descendants:,}, promoted {promoted:,}", "quiet")]))
        if rated:
            rows += evaluations.improved_rows(model, record.variant, width)
            return [*rows, *evaluations.verdict_rows(model, self.row, width)]
        if (decision := decision_of(model, record.variant)) is not None:
            rows += decision_rows(decision, width)
        found = kept(model, variant=record.variant, limit=400)
        return [*rows, rule(f"Attempts kept, {len(found)}", width), *sample_rows(found[:200], width)]

    def _screened(self, record: VariantAdded, width: int) -> list[Row]:
        screened = self.shown.view.variants.screening(self.row)
        words = score(screened) if screened is not None else "– (not screened)"
        parts = f"program {line(record.program, 16)}  weights {line(record.weights, 16)}"
        return [
            Row([("screening score ", "quiet"), (words, "plain")]),
            Row(fit([(parts, "quiet")], width)),
        ]

    def _clade(self) -> tuple[int, int]:
        """How many descend from it by first parents, and how many of these were promoted."""
        variants = self.shown.view.variants
        inside = {self.row}
        promoted = 0
        for row in range(self.row + 1, len(variants)):
            parents = variants.parents(row)
            if parents and parents[0] in inside:
                inside.add(row)
                promoted += variants.fate(row) == "promoted"
        return len(inside) - 1, promoted


class SourcePage(Page):
    """A variant's program."""

    NAME = "Source"

    def __init__(self, context: object, row: int) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.row = row

    def title(self) -> str:
        return (
            f"Source  {line(self.context.model.view.variants.name(self.row)) if self.context.model else ''}"
        )

    def build(self, width: int, height: int) -> list[Row]:
        record = record_of(self.shown, self.row)
        files = sources(self.shown, record) if record else {}
        rows: list[Row] = []
        for path in sorted(files, key=in_order):
            source = lines(files[path])
            rows.append(rule(line(path), width, counted(source.count("\n"), "line")))
            for number, each in enumerate(source.split("\n")[:MOST_LINES], 1):
                rows += [Row(piece) for piece in numbered(number, each, width)]
        return rows or text("The program is not on file", width, "quiet")
