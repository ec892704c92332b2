"""A record in whole, and a cycle: what it did, what it cost, what came of it."""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.journal.figures import duration
from moevolve.journal.text import line, lines
from moevolve.records import Entry
from moevolve_tui.drawing.rows import Row, fit, rule, text
from moevolve_tui.pages.attempts import kept, sample_rows
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import CycleTarget, EntryTarget, VariantTarget

MOST = 3000
"""Most records of a cycle that are listed."""


class EntryPage(Page):
    """A journal entry: its sentence, every field, its link in the chain."""

    NAME = "Record"

    def __init__(self, context: object, seq: int) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.seq = seq

    def title(self) -> str:
        return f"Record  {self.seq:,}"

    def build(self, width: int, height: int) -> list[Row]:
        model = self.shown
        entry = model.entry(self.seq)
        if entry is None:
            return text("This record cannot be read any more", width, "quiet")
        found = model.line(self.seq)
        rows = [
            rule(f"{type(entry.record).__name__}, record {self.seq:,}", width),
            *text(found.text, width, found.tone),
            Row(
                [
                    (
                        f"at {duration(entry.timing.at)}, took {entry.timing.took:.2f} s, link {entry.hash[:24]}",
                        "quiet",
                    )
                ]
            ),
        ]
        for name in ("candidate", "variant", "champion", "parent", "chosen"):
            row = model.view.variants.row(str(getattr(entry.record, name, "")))
            if row is not None:
                rows.append(
                    Row(
                        [(f"{name} ", "quiet"), (line(model.view.variants.name(row)), "curve")],
                        VariantTarget(row, model.view.variants.name(row)),
                    )
                )
        cycle = getattr(entry.record, "cycle", None)
        if isinstance(cycle, int):
            rows.append(Row([(f"cycle {cycle}", "curve")], CycleTarget(cycle)))
        rows.append(rule("Fields", width))
        for name, value in fields(entry).items():
            rows += text(f"{name}: {value}", width, "plain")
        return rows


def fields(entry: Entry) -> dict[str, str]:
    """A record's fields as harmless text, long lists cut."""
    plain: dict[str, Any] = msgspec.to_builtins(entry.record)
    found = {}
    for name, value in plain.items():
        words = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        found[name] = lines(words if len(words) <= 4000 else words[:3999] + "…")
    return found


class CyclePage(Page):
    """A cycle: its records, its attempts that were kept."""

    NAME = "Cycle"

    def __init__(self, context: object, number: int) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.number = number

    def title(self) -> str:
        return f"Cycle  {self.number}"

    def build(self, width: int, height: int) -> list[Row]:
        model, view = self.shown, self.shown.view
        opened = list(view.opened)
        start = (
            0
            if self.number == 0
            else next((seq for place, seq in enumerate(opened, 1) if place == self.number), None)
        )
        if start is None:
            return text(f"Cycle {self.number} has not begun", width, "quiet")
        end = next((seq for place, seq in enumerate(opened, 1) if place == self.number + 1), view.entries)
        rows = [rule(f"Cycle {self.number}, {end - start:,} records", width)]
        for seq in range(start, min(end, start + MOST)):
            found = model.line(seq)
            rows.append(
                Row(
                    fit([(f"{duration(found.at):>7} ", "quiet"), (found.text, found.tone)], width),
                    EntryTarget(seq),
                )
            )
        samples = kept(model, cycle=self.number)
        return [*rows, rule(f"Attempts kept, {len(samples)}", width), *sample_rows(samples[:200], width)]
