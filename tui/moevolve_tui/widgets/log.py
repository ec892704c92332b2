"""Pane 4: the event log, with a filter, following the newest line or standing still."""

from array import array
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.markup import escape

from moevolve.journal.drawing.lines import Line
from moevolve_tui.drawing.journal import log_line, matches
from moevolve_tui.model import RunModel
from moevolve_tui.widgets.pane import Pane

SCAN = 500
"""Entries that a filter looks at before it lets others work."""


class LogPane(Pane):
    NAME = "Log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("G,end", "newest", "newest", show=False),
    ]

    def __init__(self, number: int, model: RunModel) -> None:
        self.follow = True
        self.wanted = ""
        self._matching = array("q")
        """Entries that match the filter, of those up to `_seen`."""
        self._seen = 0
        self._scanning = False
        super().__init__(number, model)

    def titled(self) -> str:
        count = self.count()
        lines = (
            f"{count:,} of {self.model.entries:,} match \\[{escape(self.wanted)}]"
            if self.wanted
            else f"{count:,} records"
        )
        return f"{super().titled()}  {lines}  {'following' if self.follow else 'standing still, f follows'}"

    def count(self) -> int:
        return len(self._matching) if self.wanted else self.model.entries

    def draw(self, index: int, width: int) -> Line:
        return log_line(self.model.line(self._matching[index] if self.wanted else index), width)

    def filter(self, wanted: str) -> None:
        """Shows only lines that hold every word of `wanted`."""
        self.wanted, self._matching, self._seen = wanted, array("q"), 0
        self.renew()

    def renew(self) -> None:
        if self.wanted:
            until = min(self.model.entries, self._seen + SCAN)
            for seq in range(self._seen, until):
                if matches(self.model.line(seq).text, self.wanted):
                    self._matching.append(seq)
            self._seen = until
            if until < self.model.entries and not self._scanning:
                # The rest of a long journal after the keys that were pressed meanwhile.
                self._scanning = self.call_later(self._scan)
        super().renew()
        self._to_newest()

    def _scan(self) -> None:
        self._scanning = False
        self.renew()

    def toggle_follow(self) -> None:
        self.follow = not self.follow
        self.renew()

    def action_newest(self) -> None:
        self.follow = True
        self.renew()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling back means reading: the log then stands still until asked to follow again."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and self.follow and new_value < self.max_scroll_y:
            self.follow = False
            self.border_title = self.titled()

    def on_resize(self) -> None:
        self._to_newest()

    def _to_newest(self) -> None:
        if self.follow:
            self.call_after_refresh(self.scroll_to, y=self.count(), animate=False)
