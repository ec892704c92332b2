"""Pane 4: the event log, with a filter, following the newest line or standing still."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.markup import escape

from moevolve_tui.drawing.journal import log_line, matches
from moevolve_tui.drawing.lines import Line
from moevolve_tui.model import LogLine, RunModel
from moevolve_tui.widgets.pane import Pane


class LogPane(Pane):
    NAME = "Log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("G,end", "newest", "newest", show=False),
    ]

    def __init__(self, number: int, model: RunModel) -> None:
        self.follow = True
        self.wanted = ""
        self._shown: list[LogLine] = []
        self._seen = 0
        super().__init__(number, model)

    def titled(self) -> str:
        count = len(self._shown)
        lines = (
            f"{count:,} of {len(self.model.log):,} match \\[{escape(self.wanted)}]"
            if self.wanted
            else f"{count:,} records"
        )
        return f"{super().titled()}  {lines}  {'following' if self.follow else 'standing still, f follows'}"

    def count(self) -> int:
        return len(self._shown)

    def draw(self, index: int, width: int) -> Line:
        return log_line(self._shown[index], width)

    def filter(self, wanted: str) -> None:
        """Shows only lines that hold every word of `wanted`."""
        self.wanted, self._shown, self._seen = wanted, [], 0
        self.renew()

    def renew(self) -> None:
        fresh = self.model.log[self._seen :]
        self._seen = len(self.model.log)
        self._shown += [line for line in fresh if matches(line, self.wanted)] if self.wanted else fresh
        super().renew()
        self._to_newest()

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
