"""Office work: what people ask of a spreadsheet, graded by computing what was answered."""

from moevolve.tasks.office.excel_cell import EXCEL_CELL
from moevolve.tasks.skill import Skill

OFFICE: tuple[Skill, ...] = (EXCEL_CELL,)

__all__ = ["OFFICE"]
