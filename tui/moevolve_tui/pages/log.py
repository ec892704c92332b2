"""Screen 9: every record as a sentence, read when it is shown; filtered, decisions and faults alone, following."""

from __future__ import annotations

from array import array

from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.figures import duration
from moevolve.records import Controlled, Evaluated, Gated, Guarded, RolledBack, RunExtended, RunFinished
from moevolve_tui.pages.page import Page
from moevolve_tui.targets import EntryTarget

SCAN = 500
"""Entries that a filter looks at before it lets others work."""
DECISIONS = (Gated, Evaluated, Controlled, RolledBack, RunFinished, RunExtended)


class LogPage(Page):
    NAME = "Log"
    NUMBER = 9

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.wanted = ""
        self.decisions = False
        self.follow = True
        self._matching = array("q")
        self._seen = 0
        self._of: object = None
        self._width = 80

    @property
    def filtered(self) -> bool:
        return bool(self.wanted) or self.decisions

    @property
    def scanning(self) -> bool:
        """Whether a filter has more to look at."""
        model = self.context.model
        return self.filtered and model is not None and self._seen < model.entries

    def title(self) -> str:
        model = self.context.model
        entries = model.entries if model else 0
        words = f"{entries:,} records"
        if self.filtered:
            what = "decisions and alarms" if self.decisions else f"match [{self.wanted}]"
            words = f"{len(self._matching):,} of {self._seen:,} {what}"
        return f"Log  {words}  {'following' if self.follow else 'standing still, f follows'}"

    def hints(self) -> tuple[str, ...]:
        return ("e decisions",)

    def filter(self, wanted: str, decisions: bool = False) -> None:
        """Shows only lines that hold every word of `wanted`, or only decisions and alarms."""
        self.wanted, self.decisions = wanted, decisions
        self._matching, self._seen = array("q"), 0
        self.context.touch()

    def prepare(self, width: int, height: int) -> bool:
        model = self.context.model
        self._width = width
        if model is None or not model.view.entries:
            return super().prepare(width, height)
        if self._of is not model.view:
            self._of, self._matching, self._seen = model.view, array("q"), 0
        if self.filtered:
            until = min(model.entries, self._seen + SCAN)
            for seq in range(self._seen, until):
                if self._wants(seq):
                    self._matching.append(seq)
            self._seen = until
        return True

    def _wants(self, seq: int) -> bool:
        if self.decisions:
            entry = self.shown.entry(seq)
            record = entry.record if entry is not None else None
            return isinstance(record, DECISIONS) or (
                isinstance(record, Guarded) and (record.alarm or record.vetoed > 0)
            )
        return matches(self.shown.line(seq).text, self.wanted)

    def _empty(self) -> bool:
        model = self.context.model
        return model is None or not model.view.entries

    def count(self) -> int:
        if self._empty():
            return len(self.rows)
        return len(self._matching) if self.filtered else self.shown.entries

    def line(self, index: int) -> Line:
        if self._empty():
            return self.rows[index].line
        found = self.shown.line(self._seq(index))
        return fit([(f"{duration(found.at):>7} ", "quiet"), (found.text, found.tone)], self._width)

    def _seq(self, index: int) -> int:
        return self._matching[index] if self.filtered else index

    def target(self, index: int) -> EntryTarget | None:
        if self._empty() or not 0 <= index < self.count():
            return None
        return EntryTarget(self._seq(index))

    def words(self, index: int) -> str:
        return "" if self._empty() else self.shown.line(self._seq(index)).text


def matches(text: str, wanted: str) -> bool:
    """Whether every word of the filter occurs in the text, in any case and order."""
    text = text.casefold()
    return all(word in text for word in wanted.casefold().split())
