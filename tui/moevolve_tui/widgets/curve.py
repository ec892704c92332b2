"""Pane 1: the score curve. It always fills its pane."""

from moevolve_tui.drawing.curve import curve_lines
from moevolve_tui.drawing.lines import Line
from moevolve_tui.widgets.pane import Pane


class CurvePane(Pane):
    NAME = "Score"

    _drawn: tuple[int, int, int] = (-1, -1, -1)
    _lines: list[Line]

    def titled(self) -> str:
        return f"{super().titled()}  [$warning]◆[/] sealed  [$primary]━[/] dev  [$primary 60%]░[/] 95 %"

    def count(self) -> int:
        return self.scrollable_content_region.height

    def draw(self, index: int, width: int) -> Line:
        height = self.count()
        if self._drawn != (self.model.revision, width, height):
            self._lines = curve_lines(self.model, width, height)
            self._drawn = (self.model.revision, width, height)
        return self._lines[index]

    def renew(self) -> None:
        self.refresh()
