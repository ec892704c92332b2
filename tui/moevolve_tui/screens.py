"""Which page a number shows, what stands beside it on wide terminals, and what Enter opens."""

from __future__ import annotations

from moevolve_tui.pages.attempts import AttemptPage
from moevolve_tui.pages.diff import DiffPage
from moevolve_tui.pages.guards import GuardsPage
from moevolve_tui.pages.lineage import LineagePage
from moevolve_tui.pages.log import LogPage
from moevolve_tui.pages.memory import LessonPage, MemoryPage
from moevolve_tui.pages.overview import OverviewPage
from moevolve_tui.pages.page import Context, Page
from moevolve_tui.pages.records import CyclePage, EntryPage
from moevolve_tui.pages.runs import RunsPage
from moevolve_tui.pages.skills import SkillPage, SkillsPage
from moevolve_tui.pages.system import SystemPage
from moevolve_tui.pages.train import TrainPage
from moevolve_tui.pages.variant import VariantPage
from moevolve_tui.targets import (
    CycleTarget,
    DiffTarget,
    EntryTarget,
    LessonTarget,
    SampleTarget,
    SkillTarget,
    Target,
    VariantTarget,
)

SCREENS: tuple[type[Page], ...] = (
    RunsPage,
    OverviewPage,
    SkillsPage,
    LineagePage,
    DiffPage,
    TrainPage,
    MemoryPage,
    GuardsPage,
    SystemPage,
    LogPage,
)
"""By number."""
BESIDE: dict[int, tuple[int, int]] = {
    0: (1, 2),
    1: (2, 3),
    2: (1, 3),
    3: (4, 1),
    4: (3, 2),
    5: (1, 2),
    6: (2, 9),
    7: (9, 1),
    8: (9, 1),
    9: (1, 3),
}
"""Screen -> those that stand to its right where two or three fit."""


def page_for(target: Target, context: Context) -> Page | None:
    """The inspector of what a row stands for; None where it is none of a page."""
    match target:
        case VariantTarget():
            return VariantPage(context, target.row)
        case DiffTarget():
            return DiffPage(context, (target.before, target.after))
        case EntryTarget():
            return EntryPage(context, target.seq)
        case SkillTarget():
            return SkillPage(context, target.name)
        case CycleTarget():
            return CyclePage(context, target.number)
        case SampleTarget():
            return AttemptPage(context, target)
        case LessonTarget():
            return LessonPage(context, target.lesson)
        case _:
            return None
