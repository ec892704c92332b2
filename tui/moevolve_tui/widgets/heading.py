"""The two lines at the top."""

from textual.strip import Strip

from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.model import RunModel
from moevolve_tui.widgets.pane import Toned


class Heading(Toned):
    def __init__(self, model: RunModel) -> None:
        super().__init__(id="heading")
        self.model = model
        self.seconds = 0.0
        self.fault = ""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        lines = heading_lines(self.model, self.seconds, width, self.fault)
        return self.strip_of(lines[y] if y < len(lines) else [], width)
