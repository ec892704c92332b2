"""Screen 3: every variant as a tree by first parents, with its fate; only what is opened is walked."""

from __future__ import annotations

from array import array
from collections import Counter

from moevolve.journal.figures import gain, score
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve.journal.variants import Variants
from moevolve_tui.drawing.rows import Row, fit, text
from moevolve_tui.drawing.words import FATES, rating
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import FoldTarget, VariantTarget

MINOR = ("screened out", "not chosen", "not screened", "failed")
"""Fates of which only the first few children are shown until more are asked for."""
FEW, MANY = 3, 500
_NONE = -1


class Children:
    """Children of every variant in order of birth, as linked columns that grow with the variants."""

    def __init__(self) -> None:
        self._first, self._last, self._next = array("i"), array("i"), array("i")
        self.roots: list[int] = []

    def update(self, variants: Variants) -> None:
        """Takes in variants that are new."""
        for row in range(len(self._first), len(variants)):
            self._first.append(_NONE)
            self._last.append(_NONE)
            self._next.append(_NONE)
            parents = variants.parents(row)
            if not parents:
                self.roots.append(row)
                continue
            parent = parents[0]
            if self._last[parent] == _NONE:
                self._first[parent] = row
            else:
                self._next[self._last[parent]] = row
            self._last[parent] = row

    def any(self, row: int) -> bool:
        return self._first[row] != _NONE

    def of(self, row: int, most: int) -> list[int]:
        """Children in order of birth, at most `most`."""
        found: list[int] = []
        child = self._first[row]
        while child != _NONE and len(found) < most:
            found.append(child)
            child = self._next[child]
        return found


class LineagePage(Page):
    NAME = "Lineage"
    NUMBER = 3

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self._children = Children()
        self._of: Variants | None = None
        self._opened: set[int] = set()
        self._closed: set[int] = set()
        self._all: set[int] = set()
        """Rows whose minor children are all shown."""

    def title(self) -> str:
        model = self.context.model
        return f"Lineage  {len(model.view.variants) if model else 0:,}"

    def hints(self) -> tuple[str, ...]:
        return "★ champion", "W weights", "P program", "left/right fold"

    def follows(self, model: RunModel) -> tuple[object, ...]:
        view = model.view
        return (
            len(view.variants),
            len(view.gates),
            len(view.changes),
            view.requests,
            view.screened,
            view.champion,
            view.ratings.evaluations,
            len(self._opened),
            len(self._closed),
            len(self._all),
        )

    def build(self, width: int, height: int) -> list[Row]:
        view = self.shown.view
        variants = view.variants
        if self._of is not variants:
            self._children, self._of = Children(), variants
            self._opened, self._closed, self._all = set(), set(), set()
        self._children.update(variants)
        crowned = variants.row(view.champion)
        path = set(variants.ancestry(crowned)) if crowned is not None else set()
        rows = self._summary(variants, width)
        waiting: list[tuple[int, int] | tuple[int, int, Counter[str]]] = [
            (root, 0) for root in reversed(self._children.roots)
        ]
        while waiting and len(rows) < 5000:
            item = waiting.pop()
            if len(item) == 3:
                row, depth, hidden = item
                words = ", ".join(f"{count:,} more {fate}" for fate, count in hidden.items())
                rows.append(
                    Row(
                        fit(
                            [
                                ("  " * min(depth, 12) + f"· {words}", "quiet"),
                                ("   (right opens)", "faint"),
                            ],
                            width,
                        ),
                        FoldTarget(f"rest {row}"),
                    )
                )
                continue
            row, depth = item
            open_ = row not in self._closed and (row in path or row in self._opened)
            rows.append(
                Row(
                    fit(self._variant(row, depth, crowned, row in path, open_, width), width),
                    VariantTarget(row, variants.name(row)),
                )
            )
            if open_:
                below, hidden = self._below(variants, row, path)
                if hidden:
                    waiting.append((row, depth + 1, hidden))
                waiting += [(child, depth + 1) for child in reversed(below)]
        return rows

    def _below(self, variants: Variants, row: int, path: set[int]) -> tuple[list[int], Counter[str]]:
        """Children to show, and the fates of those left out."""
        shown: list[int] = []
        hidden: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        most = MANY if row in self._all else FEW
        for child in self._children.of(row, 200_000):
            fate = variants.fate(child)
            counts[fate] += 1
            if child in path or (counts[fate] <= most if fate in MINOR else len(shown) < MANY):
                shown.append(child)
            else:
                hidden[fate] += 1
        return shown, hidden

    def _summary(self, variants: Variants, width: int) -> list[Row]:
        counts = variants.fates()
        words = ", ".join(
            f"{count:,} {fate}" for fate, count in sorted(counts.items(), key=lambda each: -each[1])
        )
        return text(f"{len(variants):,} variants: {words}", width, "head")

    def _variant(
        self, row: int, depth: int, crowned: int | None, on_path: bool, open_: bool, width: int
    ) -> list[tuple[str, Tone]]:
        variants = self.shown.view.variants
        fate, kind = variants.fate(row), variants.level(row)
        mark, tone = FATES[fate]
        when = "e" if self.shown.optimises else "c"
        fold = " " if not self._children.any(row) else "v" if open_ else ">"
        name = (
            "  " * min(depth, 10)
        ) + f"{fold}{'★' if row == crowned else mark} {line(variants.name(row), 10)}"
        level: Tone = "quiet" if kind == "seed" else kind
        measured, screened = variants.gain(row), variants.screening(row)
        rated = self.shown.view.ratings.score(row)
        figure = "–"
        if measured is not None:
            figure = f"{gain(measured)} n={variants.tasks(row):,}"
        elif screened is not None:
            figure = f"screened {score(screened)}"
        elif rated is not None:
            figure = f"score {rating(rated)}"
        size = max(18, min(34, width // 4))
        marked = "m" if row == self.context.marked else " "
        # What a variant changes is said where it gets some words, and not cut to one.
        room = width - size - 38
        words = self.shown.words(row) if room >= 12 else ""
        return [
            (f"{name:<{size}}{marked}", "mark" if row == crowned else "head" if on_path else "plain"),
            (f"{kind[0].upper()} ", level),
            (f"{when}{variants.cycle(row):<3} ", "quiet"),
            (f"{fate:<12} ", tone),
            (f"{figure:<16} " if words else figure, tone if measured is not None else "quiet"),
            (words, "plain" if on_path else "quiet"),
        ]

    def fold(self, index: int, open: bool) -> bool:
        target = self.target(index)
        if isinstance(target, FoldTarget):
            if open:
                self._all.add(int(target.key.split()[1]))
            self.context.touch()
            return True
        if not isinstance(target, VariantTarget):
            return False
        if open:
            self._opened.add(target.row)
            self._closed.discard(target.row)
        elif target.row in self._all:
            self._all.discard(target.row)
        else:
            self._closed.add(target.row)
            self._opened.discard(target.row)
        self.context.touch()
        return True

    def reveal(self, row: int) -> None:
        """Opens what lies above a variant, so that it is shown."""
        if self._of is not None and self._of is self.shown.view.variants:
            for above in self._of.ancestry(row)[:-1]:
                self._opened.add(above)
                self._closed.discard(above)
                if self._of.fate(row) in MINOR:
                    self._all.add(above)
            self.context.touch()
