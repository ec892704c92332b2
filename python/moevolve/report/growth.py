"""The growth of a run's skill tree in figures: leaves with their mastery, opened levels, and every change that was tried."""

from __future__ import annotations

import msgspec

from moevolve.journal.growth import GrownChange
from moevolve.journal.intervals import wilson
from moevolve.journal.kinds.growth import said
from moevolve.journal.scores import Skill
from moevolve.journal.view import RunView
from moevolve.records import Change, SkillScore
from moevolve.report.score import ends, short


class LevelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Success at one level, of the champion with its program: the posterior's mean and 95 % interval."""

    level: int
    mean: float
    ci: tuple[float, float]
    n: int
    """Attempts; older ones count for less."""


class ColumnFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A score of the growth column, on sealed tasks."""

    score: float
    ci: tuple[float, float]
    n: int


class GrownFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leaf that the tree grew, or the levels that another one opened."""

    summary: str
    levels: tuple[int, int]
    growth: str
    """The newest change that gave it leaf or levels."""
    parents: list[str]
    feature: str = ""
    level: int | None = None
    level_ci: tuple[int, int] | None = None
    attempts: int = 0
    sealed: ColumnFigures | None = None
    mastery: list[LevelFigures] = []


class ChangeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was tried."""

    growth: str
    change: Change
    cycle: int
    what: str
    state: str
    """`added`, `declined` or `rolled back`."""
    reason: str


class GrowthFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The growth of a tree."""

    leaves: dict[str, GrownFigures]
    opened: dict[str, GrownFigures]
    """Leaves of the suite that opened levels, with what lies beyond their first ones."""
    changes: list[ChangeFigures]


def growth(view: RunView) -> GrowthFigures | None:
    """The figures; None where no change was ever tried."""
    if not view.growth.tries:
        return None
    held = view.growth.in_force()
    leaves = {}
    for path, skill in view.growth.skills.items():
        made = view.growth.origin(path)
        if made is not None:
            leaves[path] = _grown(view, skill, made, skill.levels)
    opened = {}
    for path, high in sorted(view.growth.opened.items()):
        skill = view.skills[path]
        last = [change for change in held if change.change == "levels" and change.skill == path][-1]
        opened[path] = _grown(view, skill, last, (skill.levels[1] + 1, high))
    return GrowthFigures(
        leaves=leaves,
        opened=opened,
        changes=[
            ChangeFigures(
                growth=change.name,
                change=change.change,
                cycle=change.cycle,
                what=said(change.change, change.skill, list(change.parents), list(change.leaves)),
                state=change.state,
                reason=change.reason,
            )
            for change in view.growth.changes
        ],
    )


def mastery(skill: Skill, levels: tuple[int, int] | None = None) -> list[LevelFigures]:
    """A leaf's posteriors by level, of all tried levels or of some."""
    low, high = levels or (0, max(skill.tries, default=0))
    return [
        LevelFigures(
            level=level,
            mean=short(found.mean),
            ci=ends(found),
            n=found.n,
        )
        for level, found in skill.mastery.items()
        if low <= level <= high
    ]


def _grown(view: RunView, skill: Skill, change: GrownChange, levels: tuple[int, int]) -> GrownFigures:
    level, ends = skill.level or (None, None)
    share = view.growth.scores.get(skill.path)
    return GrownFigures(
        summary=skill.summary,
        levels=levels,
        growth=change.name,
        parents=list(change.parents),
        feature=change.feature,
        level=level,
        level_ci=ends,
        attempts=skill.attempts,
        sealed=None if share is None else _column(share),
        mastery=mastery(skill, levels),
    )


def _column(share: SkillScore) -> ColumnFigures:
    found = wilson(share.score * share.n, share.n)
    return ColumnFigures(
        score=short(share.score),
        ci=ends(found),
        n=share.n,
    )
