"""What a variant can do, by skill and level, estimated from its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from moevolve.errors import UsageError
from moevolve.skills.tree import Node, grow

MASTERED = 0.8
"""Success from which a level counts as mastered, together with all levels below it."""
ENOUGH = 4.0
"""Attempts that a level needs before its success says anything about mastery."""
PRIOR = 2.0
"""Attempts that the prior of an estimate is worth."""
SLOPE = 0.85
"""A level never tried is expected to succeed this many times as often as the level below."""
UNKNOWN = 0.5
"""What is expected of the lowest level before any attempt."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How well a node of the tree is known; inner nodes aggregate their children."""

    path: str
    level: float
    """Mastered level of a leaf, 0 before any; the children's mean for an inner node."""
    success: float
    """Mean estimated success over the leaf's levels; the children's mean for an inner node."""
    attempts: float


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

    def mastered(self, skill: str) -> int:
        """The highest level that succeeds often enough, with all levels below it; 0 before any."""
        low, high = self._range(skill)
        best = 0
        for level in range(low, high + 1):
            wins, tries = self.tries(skill, level)
            if tries < ENOUGH or wins < MASTERED * tries:
                break
            best = level
        return best

    def standings(self) -> list[Standing]:
        """Every node of the tree, parents before their children; the root has the path ""."""
        found: dict[str, Standing] = {}
        _stand(self, grow(self.levels), found)
        return [found[node.path] for _, node in grow(self.levels).walk() if node.path in found]

    def _range(self, skill: str) -> tuple[int, int]:
        if skill not in self.levels:
            raise UsageError(f"no skill {skill!r}; there are {', '.join(self.levels)}")
        return self.levels[skill]


def _stand(mastery: Mastery, node: Node, found: dict[str, Standing]) -> Standing:
    if node.leaf:
        estimates = mastery.estimates(node.path)
        standing = Standing(
            path=node.path,
            level=float(mastery.mastered(node.path)),
            success=_mean(estimates.values()),
            attempts=sum(mastery.tries(node.path, level)[1] for level in estimates),
        )
    else:
        below = [_stand(mastery, child, found) for child in node.children]
        standing = Standing(
            path=node.path,
            level=_mean(child.level for child in below),
            success=_mean(child.success for child in below),
            attempts=sum(child.attempts for child in below),
        )
    found[node.path] = standing
    return standing


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
