"""Pane 3: every variant, newest first."""

from moevolve.journal.drawing.lines import Line
from moevolve_tui.drawing.lineage import variant_line
from moevolve_tui.widgets.pane import Pane


class LineagePane(Pane):
    NAME = "Lineage"

    def titled(self) -> str:
        return f"{super().titled()}  {len(self.model.view.variants)}  ✔ promoted ○ kept ✗ out"

    def count(self) -> int:
        return len(self.model.view.variants)

    def draw(self, index: int, width: int) -> Line:
        row = self.count() - 1 - index
        return variant_line(self.model.view, row, self.model.words(row), width)
