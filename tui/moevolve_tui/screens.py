"""Which page a number shows, what stands beside it on wide terminals, and what Enter opens.

A page's module is taken in when it is first shown: what a person does not look at takes no time at the start.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from moevolve_tui.pages.page import Context, Page
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


class Screen(NamedTuple):
    """A screen by the name, the module and the class of its page."""

    NAME: str
    module: str
    page: str

    def __call__(self, context: Context) -> Page:
        """The page, made now."""
        made: type[Page] = getattr(import_module(f"moevolve_tui.pages.{self.module}"), self.page)
        return made(context)


SCREENS = (
    Screen("Runs", "runs", "RunsPage"),
    Screen("Overview", "overview", "OverviewPage"),
    Screen("Skills", "skills", "SkillsPage"),
    Screen("Lineage", "lineage", "LineagePage"),
    Screen("Diff", "diff", "DiffPage"),
    Screen("Train", "train", "TrainPage"),
    Screen("Memory", "memory", "MemoryPage"),
    Screen("Guards", "guards", "GuardsPage"),
    Screen("System", "system", "SystemPage"),
    Screen("Log", "log", "LogPage"),
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


class Pages:
    """The pages of the screens by number, each made when it is first asked for.

    Args:
        context: what pages share.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: dict[int, Page] = {}

    def __getitem__(self, number: int) -> Page:
        if number not in self._made:
            self._made[number] = SCREENS[number](self._context)
        return self._made[number]

    def made(self, number: int) -> Page | None:
        """A page, if it was shown before."""
        return self._made.get(number)


def page_for(target: Target, context: Context) -> Page | None:
    """The inspector of what a row stands for; None where it is none of a page."""
    match target:
        case VariantTarget():
            from moevolve_tui.pages.variant import VariantPage

            return VariantPage(context, target.row)
        case DiffTarget():
            from moevolve_tui.pages.diff import DiffPage

            return DiffPage(context, (target.before, target.after))
        case EntryTarget():
            from moevolve_tui.pages.records import EntryPage

            return EntryPage(context, target.seq)
        case SkillTarget():
            from moevolve_tui.pages.skills import SkillPage

            return SkillPage(context, target.name)
        case CycleTarget():
            from moevolve_tui.pages.records import CyclePage

            return CyclePage(context, target.number)
        case SampleTarget():
            from moevolve_tui.pages.attempts import AttemptPage

            return AttemptPage(context, target)
        case LessonTarget():
            from moevolve_tui.pages.memory import LessonPage

            return LessonPage(context, target.lesson)
        case _:
            return None
