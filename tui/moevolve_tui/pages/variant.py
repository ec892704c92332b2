"""A variant: where it comes from, what it changes, how it fared, its attempts; its source; what tells two variants apart."""

from __future__ import annotations

import difflib

from moevolve.errors import MoevolveError
from moevolve.journal.figures import evidence, gain, score
from moevolve.journal.kinds import Tone
from moevolve.journal.kinds.variants import what
from moevolve.journal.programs import program_files
from moevolve.journal.text import line, lines
from moevolve.records import Gated, VariantAdded
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.drawing.words import FATES
from moevolve_tui.model import RunModel
from moevolve_tui.pages.attempts import kept, sample_rows
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import ActionTarget, CycleTarget, DiffTarget, SkillTarget, VariantTarget

MOST_LINES = 20_000


def record_of(model: RunModel, row: int) -> VariantAdded | None:
    entry = model.entry(model.view.variants.entry(row)) if 0 <= row < len(model.view.variants) else None
    return entry.record if entry is not None and isinstance(entry.record, VariantAdded) else None


def decision_of(model: RunModel, name: str) -> Gated | None:
    """The gate's newest decision about a variant, of the last thousand."""
    for seq in reversed(model.view.gates[-1000:]):
        entry = model.entry(seq)
        if entry is not None and isinstance(entry.record, Gated) and entry.record.candidate == name:
            return entry.record
    return None


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
        size = min(12, round(abs(value) * 24))
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


def decision_rows(decision: Gated, width: int) -> list[Row]:
    """What the gate decided and on what."""
    words = f"{decision.decision}: {gain(decision.gain)} on {decision.n:,} pairs"
    words += f", {decision.wins} won, {decision.losses} lost"
    rows = [rule("At the gate", width), *text(words, width, "head")]
    needed = (
        f"evidence {evidence(decision.evidence)}, needed {1 / decision.alpha:,.0f} : 1"
        if decision.alpha > 0
        else ""
    )
    rows += text(f"{needed}; {line(decision.reason)}", width, "quiet")
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
        name, fate = line(record.variant), variants.fate(self.row)
        mark, tone = FATES[fate]
        crowned = ", champion" if record.variant == model.view.champion else ""
        rows = [
            Row(
                fit(
                    [
                        (f"{mark} {name} ", "head"),
                        (f"{fate}{crowned}", tone),
                        (f"  {record.level}, cycle {record.cycle}", "quiet"),
                    ],
                    width,
                ),
                CycleTarget(record.cycle),
            ),
            *text(what(record) or "as shipped", width),
        ]
        for place, parent in enumerate(variants.parents(self.row)):
            words = "made from" if place == 0 else "its other half from"
            rows.append(
                Row(
                    [(f"{words} ", "quiet"), (line(variants.name(parent)), "plain")],
                    VariantTarget(parent, variants.name(parent)),
                )
            )
        screened = variants.screening(self.row)
        rows.append(
            Row(
                [
                    ("screening score ", "quiet"),
                    (score(screened) if screened is not None else "– (not screened)", "plain"),
                ]
            )
        )
        rows.append(
            Row(
                fit(
                    [(f"program {line(record.program, 16)}  weights {line(record.weights, 16)}", "quiet")],
                    width,
                )
            )
        )
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
        if (decision := decision_of(model, record.variant)) is not None:
            rows += decision_rows(decision, width)
        found = kept(model, variant=record.variant, limit=400)
        return [*rows, rule(f"Attempts kept, {len(found)}", width), *sample_rows(found[:200], width)]

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
        for path, source in sorted(files.items()):
            rows.append(rule(line(path), width, f"{source.count(chr(10))} lines"))
            for number, each in enumerate(lines(source).split("\n")[:MOST_LINES], 1):
                rows.append(Row([(f"{number:>4}  ", "quiet"), (each.expandtabs(4), "plain")]))
        return rows or text("The program is not on file", width, "quiet")


class DiffPage(Page):
    """Screen 4, and what Enter opens on a change: the program's diff, what it did to each skill, whether weights changed."""

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
        return f"Diff  {before} > {after}   [ ] hunks, a attempts that flipped"

    def follows(self, model: RunModel) -> tuple[object, ...]:
        return self.chosen(), len(model.view.gates)

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
        rows: list[Row] = []
        fate = model.view.variants.fate(pair[1])
        rows.append(
            Row(
                fit(
                    [
                        (f"{line(before.variant)} > {line(after.variant)} ", "head"),
                        (f"{fate}, cycle {after.cycle}: ", "quiet"),
                        (what(after), "plain"),
                    ],
                    width,
                ),
                VariantTarget(pair[1], after.variant),
            )
        )
        old, new = sources(model, before), sources(model, after)
        if before.program == after.program:
            rows.append(Row([("program: the same", "quiet")]))
        elif not old or not new:
            rows.append(Row([("program: changed; its source is not on file", "warn")]))
        for path in sorted(set(old) | set(new)):
            if old.get(path) != new.get(path):
                rows += self._file(path, old.get(path, ""), new.get(path, ""), width, len(rows))
        same = before.weights == after.weights
        rows += [
            rule("Weights", width),
            Row(
                fit(
                    [
                        (
                            f"unchanged ({line(after.weights, 12)})"
                            if same
                            else f"{line(before.weights, 12)} > {line(after.weights, 12)}, trained",
                            "quiet" if same else "weights",
                        )
                    ],
                    width,
                )
            ),
        ]
        if (decision := decision_of(model, after.variant)) is not None:
            rows += decision_rows(decision, width)
            flipped = [each for each in kept(model, variant=after.variant) if each.stage == "gate"]
            rows += [rule(f"Attempts that flipped, {len(flipped)} kept", width), *sample_rows(flipped, width)]
        return rows

    def _file(self, path: str, old: str, new: str, width: int, start: int) -> list[Row]:
        found = list(difflib.unified_diff(lines(old).split("\n"), lines(new).split("\n"), n=3, lineterm=""))[
            2:
        ]
        added = sum(each.startswith("+") for each in found)
        removed = sum(each.startswith("-") for each in found)
        rows = [rule(line(path), width, f"+{added} -{removed}")]
        here = there = 0
        for each in found[:MOST_LINES]:
            if each.startswith("@@"):
                self.hunks.append(start + len(rows))
                here, there = _starts(each)
                rows.append(Row([(each, "quiet")]))
                continue
            mark, body = each[:1] or " ", each[1:].expandtabs(4)
            tone: Tone = "good" if mark == "+" else "bad" if mark == "-" else "plain"
            number = here if mark == "-" else there
            rows.append(Row([(f"{mark} {number:>4}  ", tone), (body, tone)]))
            here += mark != "+"
            there += mark != "-"
        return rows


def _starts(hunk: str) -> tuple[int, int]:
    """First lines of a hunk `@@ -a,b +c,d @@`, before and after."""
    parts = hunk.split()
    return tuple(abs(int(part.split(",")[0])) for part in parts[1:3])  # type: ignore[return-value]
