"""Pane 2: the skill tree."""

from moevolve.journal.drawing.lines import Line
from moevolve_tui.drawing.skills import TreeRow, skill_line, tree_rows
from moevolve_tui.widgets.pane import Pane


class SkillsPane(Pane):
    NAME = "Skills"

    _rows: list[TreeRow] = []

    def titled(self) -> str:
        return f"{super().titled()}  before→now, level"

    def count(self) -> int:
        return len(self._rows)

    def draw(self, index: int, width: int) -> Line:
        return skill_line(self._rows[index], width)

    def renew(self) -> None:
        self._rows = tree_rows(self.model.view)
        super().renew()
