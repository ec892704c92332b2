"""Pane 3: every variant, newest first."""

from moevolve_tui.drawing.lineage import lineage_rows, variant_line
from moevolve_tui.drawing.lines import Line
from moevolve_tui.model import VariantView
from moevolve_tui.widgets.pane import Pane


class LineagePane(Pane):
    NAME = "Lineage"

    _rows: list[VariantView] = []

    def titled(self) -> str:
        return f"{super().titled()}  {len(self.model.variants)}  ✔ promoted ○ kept ✗ out"

    def count(self) -> int:
        return len(self._rows)

    def draw(self, index: int, width: int) -> Line:
        return variant_line(self._rows[index], self.model.champion, width)

    def renew(self) -> None:
        self._rows = lineage_rows(self.model)
        super().renew()
