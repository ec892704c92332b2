"""The lines at the top: as many as there is to say."""

from __future__ import annotations

from textual.strip import Strip

from moevolve.journal.drawing.lines import Line
from moevolve_tui.widgets.pane import Toned, Tones


class Heading(Toned):
    def __init__(self, tones: Tones) -> None:
        super().__init__(id="heading", tones=tones)
        self._lines: list[Line] = []

    def tell(self, lines: list[Line]) -> None:
        """Shows lines; the widget is as high as they are."""
        if lines == self._lines:
            return
        if len(lines) != len(self._lines):
            self.styles.height = max(2, len(lines))
        self._lines = lines
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        return self.strip_of(self._lines[y] if y < len(self._lines) else [], width)
