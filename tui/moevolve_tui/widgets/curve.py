"""Pane 1: the score curve. It always fills its pane."""

from moevolve.journal.drawing.curve import curve_lines
from moevolve.journal.drawing.lines import Line
from moevolve_tui.widgets.pane import Pane


class CurvePane(Pane):
    NAME = "Score"

    _drawn: tuple[object, ...] = ()
    _lines: list[Line]

    def titled(self) -> str:
        return f"{super().titled()}  [$warning]◆[/] sealed  [$primary]━[/] dev  [$primary 60%]░[/] 95 %"

    def count(self) -> int:
        return self.scrollable_content_region.height

    def draw(self, index: int, width: int) -> Line:
        height = self.count()
        drawn = (self.model.revision, self.model.status, width, height)
        if self._drawn != drawn:
            waiting = self.model.status == "waiting"
            self._lines = curve_lines(
                self.model.view,
                width,
                height,
                ended=self.model.status in ("finished", "failed", "stopped"),
                message="Waiting for the run's first record"
                if waiting
                else "No score yet: the sealed test comes first",
            )
            self._drawn = drawn
        return self._lines[index]

    def renew(self) -> None:
        self.refresh()
