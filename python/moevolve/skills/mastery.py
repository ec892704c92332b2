"""What a variant can do, by skill and level, estimated from its attempts."""

from __future__ import annotations

from collections.abc import Mapping

from moevolve.errors import UsageError
from moevolve.journal.intervals import mastered_level, posterior
from moevolve.records import Interval

FADE = 0.4
"""Share of older counts that is left after a cycle, or once the program has changed: they describe another variant."""
PRIOR = 2.0
"""Attempts that the prior of an estimate is worth."""
SLOPE = 0.85
"""A level never tried is expected to succeed this many times as often as the level below."""
UNKNOWN = 0.5
"""What is expected of the lowest level before any attempt."""


class Mastery:
    """Success by skill and level.

    Args:
        levels: skill -> its lowest and highest level, such as `{path: skill.levels for path, skill in
            suite.skills.items()}`.
    """

    def __init__(self, levels: Mapping[str, tuple[int, int]]) -> None:
        self.levels = dict(sorted(levels.items()))
        self._tries: dict[tuple[str, int], tuple[float, float]] = {}

    def observe(self, skill: str, level: int, successes: float, attempts: float = 1) -> None:
        """Adds attempts at one level, `successes` of them good.

        Raises:
            UsageError: no such skill or level, or more successes than attempts.
        """
        low, high = self._range(skill)
        if not low <= level <= high or not 0 <= successes <= attempts:
            raise UsageError(f"{skill}: {successes} of {attempts} at level {level} (levels {low} to {high})")
        wins, tries = self.tries(skill, level)
        self._tries[skill, level] = (wins + successes, tries + attempts)

    def fade(self, factor: float) -> None:
        """Lets what was seen so far count for less: the variant has changed since."""
        self._tries = {cell: (wins * factor, tries * factor) for cell, (wins, tries) in self._tries.items()}

    def tries(self, skill: str, level: int) -> tuple[float, float]:
        """(successes, attempts) at one level."""
        return self._tries.get((skill, level), (0.0, 0.0))

    def table(self) -> list[tuple[str, int, float, float]]:
        """(skill, level, successes, attempts) of every level that was tried, in order; `observe` reads it back."""
        return [(skill, level, *counts) for (skill, level), counts in sorted(self._tries.items())]

    def estimates(self, skill: str) -> dict[int, float]:
        """Expected success at every level: the mean of a Beta posterior.

        The prior is worth `PRIOR` attempts and leans on the level below, so that a level beyond the
        frontier is held to be a little harder than the frontier until it has been tried.
        """
        low, high = self._range(skill)
        expected = UNKNOWN / SLOPE
        found: dict[int, float] = {}
        for level in range(low, high + 1):
            wins, tries = self.tries(skill, level)
            expected = (wins + PRIOR * SLOPE * expected) / (tries + PRIOR)
            found[level] = expected
        return found

    def posteriors(self, skill: str) -> dict[int, Interval]:
        """Success at every level with its 95 % credible interval: the posteriors whose means are `estimates`."""
        low, high = self._range(skill)
        expected = UNKNOWN / SLOPE
        found: dict[int, Interval] = {}
        for level in range(low, high + 1):
            wins, tries = self.tries(skill, level)
            before = SLOPE * expected
            found[level] = posterior(wins, tries, (PRIOR * before, PRIOR * (1 - before)))
            expected = (wins + PRIOR * before) / (tries + PRIOR)
        return found

    def level(self, skill: str) -> tuple[int, tuple[int, int]]:
        """The mastered level with its 95 % interval; 0 where none is."""
        levels = self._range(skill)
        tried = {
            level: self.tries(skill, level)
            for level in range(levels[0], levels[1] + 1)
            if self.tries(skill, level)[1]
        }
        return mastered_level(tried, levels)

    def mastered(self, skill: str) -> bool:
        """Whether the whole skill is: its highest level is the mastered one, and was tried."""
        high = self._range(skill)[1]
        return self.tries(skill, high)[1] > 0 and self.level(skill)[0] == high

    def whole(self, skill: str) -> tuple[float, float]:
        """(successes, attempts) over all levels."""
        low, high = self._range(skill)
        counts = [self.tries(skill, level) for level in range(low, high + 1)]
        return sum(wins for wins, _ in counts), sum(tries for _, tries in counts)

    def _range(self, skill: str) -> tuple[int, int]:
        if skill not in self.levels:
            raise UsageError(f"no skill {skill!r}; there are {', '.join(self.levels)}")
        return self.levels[skill]
