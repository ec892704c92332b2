"""Scores of a run and its skills, each kept by its split, so that gains are between like splits only."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from moevolve.journal.intervals import independent_gain, mastered_level, posterior, wilson
from moevolve.records import Interval, SkillScore, Tally

Split = Literal["sealed", "dev"]
LevelInterval = tuple[int, tuple[int, int]]
"""A mastered level and its 95 % interval."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """One evaluation on the curve. `seconds` are since the run's first entry."""

    cycle: int
    split: Split
    when: Literal["initial", "cycle", "final"]
    score: Interval
    seconds: float
    variant: str
    bare: Interval | None = None
    """The bare policy's on the same tasks, where programs may compute."""


class Skill(msgspec.Struct):
    """A leaf of the tree: its first and newest score by split, and what was tried by level."""

    path: str
    summary: str = ""
    levels: tuple[int, int] = (1, 1)
    attempts: int = 0
    successes: int = 0
    first: dict[str, SkillScore] = {}
    newest: dict[str, SkillScore] = {}
    tries: dict[int, tuple[float, float]] = {}
    """Level -> (successes, attempts) of the champion with its program; what older champions did counts for less."""
    first_level: LevelInterval | None = None
    practice: dict[int, list[int]] = {}
    """Level -> [right by the bare policy, of so many, right through the program, of so many], on train tasks."""
    failures: dict[str, int] = {}
    """Failures on train tasks by type."""

    def try_level(self, source: str, tally: Tally) -> None:
        """Takes attempts of a stage on train tasks."""
        counts = self.practice.get(tally.level)
        if counts is None:
            counts = self.practice[tally.level] = [0, 0, 0, 0]
        place = 2 if source == "program" else 0
        counts[place] += tally.successes
        counts[place + 1] += tally.attempts
        for kind, count in tally.failures.items():
            self.failures[kind] = self.failures.get(kind, 0) + count

    def measure(self, split: Split, share: SkillScore) -> None:
        """Takes an evaluation's score."""
        if split in self.first:
            self.newest[split] = share
        else:
            self.first[split] = share

    @property
    def split(self) -> Split:
        """The split to show a change on: the sealed one once it was scored twice."""
        return "sealed" if "sealed" in self.newest or "dev" not in self.first else "dev"

    @property
    def before(self) -> float | None:
        """The first score on the split to show."""
        return share.score if (share := self.first.get(self.split)) else None

    @property
    def now(self) -> float | None:
        """The newest score on the same split; None while there is only one."""
        return share.score if (share := self.newest.get(self.split)) else None

    @property
    def gain(self) -> Gain | None:
        """The gain on the split to show, with the interval of two Wilson intervals; None while there is one score."""
        first, newest = self.first.get(self.split), self.newest.get(self.split)
        if first is None or newest is None or not math.isfinite(first.score + newest.score):
            return None
        before, after = (wilson(each.score * each.n, each.n) for each in (first, newest))
        return Gain(newest.score - first.score, independent_gain(before, after))

    @property
    def level(self) -> LevelInterval | None:
        """The mastered level with its interval, of the levels that were tried; None before any attempt."""
        if not self.tries:
            return None
        return mastered_level(self.tries, (min(self.levels[0], *self.tries), max(self.tries)))

    @property
    def mastery(self) -> dict[int, Interval]:
        """Level -> success of the champion with its program, the posterior's mean and 95 % interval; tried levels alone."""
        return {level: posterior(*self.tries[level]) for level in sorted(self.tries)}


class Gain(msgspec.Struct, frozen=True):
    """A difference of two scores of one split, with its interval."""

    gain: float
    interval: tuple[float, float]


def independent(before: Interval, after: Interval) -> Gain:
    """The gain between two scores on different tasks."""
    return Gain(after.mean - before.mean, independent_gain(before, after))
