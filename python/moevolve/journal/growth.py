"""What a run's skill tree grew, as its journal tells it: changes with their trials, and leaves apart from the suite's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from moevolve.journal.scores import Skill
from moevolve.journal.text import line
from moevolve.records import Change, Grown, GrowthScored, SkillScore

MOST = 10_000
"""Most changes that are kept, the newest."""


class GrownChange(msgspec.Struct):
    """A change of the tree: what was tried, and what became of it."""

    name: str
    change: Change
    cycle: int
    skill: str
    parents: tuple[str, ...]
    leaves: tuple[tuple[str, tuple[int, int]], ...]
    """(path, levels) of the leaves as they were after it."""
    feature: str
    state: str
    """`added`, `declined` or `rolled back`."""
    reason: str
    seq: int
    """Of its record."""


class Row(NamedTuple):
    """A change in force, as far as a rollback looks at it."""

    name: str
    change: Change
    skill: str
    parents: Sequence[str]
    leaves: Sequence[str]
    """Paths of the leaves that it is about."""


def taken_back(rows: Sequence[Row], name: str) -> list[int]:
    """Which of the changes in force go with one that is taken back: itself, what was made of its leaves, and later levels
    of the same leaf, which stand on its own. None where it is not in force."""
    gone: list[int] = []
    leaves: set[str] = set()
    opened: set[str] = set()
    for index, row in enumerate(rows):
        if row.change == "levels" and (row.name == name or row.skill in opened):
            opened.add(row.skill)
        elif row.name == name or leaves.intersection(row.parents):
            leaves.update(row.leaves if row.change in ("compose", "split") else ())
        else:
            continue
        gone.append(index)
    return gone


class Growth:
    """The growth of one run."""

    def __init__(self) -> None:
        self.changes: deque[GrownChange] = deque(maxlen=MOST)
        self.skills: dict[str, Skill] = {}
        """Leaves that the tree grew and that are still there."""
        self.gone: dict[str, Skill] = {}
        """Leaves that were retired or rolled back."""
        self.opened: dict[str, int] = {}
        """Leaf of the suite -> its highest level, where that was opened."""
        self.scores: dict[str, SkillScore] = {}
        """The growth column: the newest sealed scores of what was grown."""
        self.scored: GrowthScored | None = None
        self.tries = 0

    def take(self, record: Grown, seq: int, base: dict[str, Skill]) -> None:
        """Takes a change that was tried; `base` are the suite's leaves."""
        self.tries += 1
        self.changes.append(
            GrownChange(
                name=line(record.growth),
                change=record.change,
                cycle=record.cycle,
                skill=line(record.skill),
                parents=tuple(map(line, record.parents)),
                leaves=tuple((line(leaf.path), leaf.levels) for leaf in record.leaves),
                feature=line(record.feature),
                state=record.decision,
                reason=line(record.reason),
                seq=seq,
            )
        )
        if record.decision == "added":
            for leaf in record.leaves:
                path = line(leaf.path)
                if record.change in ("compose", "split"):
                    self.gone.pop(path, None)
                    self.skills[path] = Skill(path, line(leaf.summary), leaf.levels)
            self._settle(base)

    def roll_back(self, name: str, base: dict[str, Skill]) -> None:
        """Takes a change back, and with it what builds on it."""
        held = self.in_force()
        rows = [
            Row(change.name, change.change, change.skill, change.parents, [path for path, _ in change.leaves])
            for change in held
        ]
        for index in taken_back(rows, name):
            held[index].state = "rolled back"
        self._settle(base)

    def score(self, record: GrowthScored) -> None:
        """Takes the growth column."""
        self.scored = record
        self.scores = {line(path): share for path, share in record.skills.items()}

    def in_force(self) -> list[GrownChange]:
        """Changes that hold now, in order."""
        return [change for change in self.changes if change.state == "added"]

    def origin(self, path: str) -> GrownChange | None:
        """The change that added a leaf."""
        added = [
            change
            for change in self.changes
            if change.change in ("compose", "split") and any(path == leaf for leaf, _ in change.leaves)
        ]
        return added[-1] if added else None

    def _settle(self, base: dict[str, Skill]) -> None:
        """Leaves and levels as the changes in force leave them."""
        levels: dict[str, tuple[int, int]] = {}
        there: set[str] = set()
        self.opened = {}
        for change in self.in_force():
            for path, of in change.leaves:
                if change.change == "retire":
                    there.discard(path)
                elif change.change == "levels" and path in base:
                    self.opened[path] = of[1]
                else:
                    levels[path] = of
                    there.add(path)
        every = self.gone | self.skills
        self.skills = {path: every[path] for path in sorted(there) if path in every}
        self.gone = {path: skill for path, skill in sorted(every.items()) if path not in there}
        for path, skill in self.skills.items():
            skill.levels = levels[path]
        for path, skill in base.items():
            # What was tried beyond the levels that are open says nothing of the leaf.
            top = self.opened.get(path, skill.levels[1])
            skill.tries = {level: counts for level, counts in skill.tries.items() if level <= top}


def leaves_of(base: Iterable[Skill], growth: Growth) -> list[Skill]:
    """The whole tree's leaves: the suite's and those that it grew, by path."""
    return sorted([*base, *growth.skills.values()], key=lambda skill: skill.path)
