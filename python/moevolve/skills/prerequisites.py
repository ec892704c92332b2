"""Prerequisites: what a skill builds on, and how far that is mastered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from moevolve.skills.mastery import Mastery

Readiness = Callable[[str, int], float]
"""(skill, level) -> probability that the skills it builds on succeed at that level; 1 where it builds on none."""


def always(skill: str, level: int) -> float:
    """Of skills that build on nothing."""
    return 1.0


def readiness(requires: Mapping[str, Sequence[str]], *masteries: Mastery) -> Readiness:
    """How ready a skill is: the least estimate among its prerequisites, each at the same level or its highest below.

    Args:
        requires: skill -> its prerequisites; one that no mastery knows counts as mastered.
        masteries: of the variant with its program; the first that knows a skill speaks for it.
    """
    known: dict[str, dict[int, float]] = {}

    def estimates(path: str) -> dict[int, float]:
        if path not in known:
            whose = next((each for each in masteries if path in each.levels), None)
            known[path] = {} if whose is None else whose.estimates(path)
        return known[path]

    def ready(skill: str, level: int) -> float:
        found = 1.0
        for path in requires.get(skill, ()):
            if levels := estimates(path):
                found = min(found, levels[min(max(levels), max(min(levels), level))])
        return found

    return ready
