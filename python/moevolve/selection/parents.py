"""Parent choice: which variant of the archive is changed next."""

from __future__ import annotations

import math
from random import Random
from typing import Protocol

from moevolve.errors import UsageError
from moevolve.journal.archive import Archive, Variant


class Selection(Protocol):
    """A rule that chooses a variant to change: a function of the archive and the generator alone."""

    def choose(self, archive: Archive, rng: Random) -> Variant: ...


class DgmSelection:
    """The Darwin Goedel Machine's rule (arXiv 2505.22954, appendix A): good ones more often, much-used ones
    less.

    p proportional to sigmoid(slope * (score - midpoint)) / (1 + number of children). No variant is ever excluded
    for its score; one that a guard vetoed is nobody's parent. One without a score of its own (a child by weights
    keeps its parent's program) counts with its nearest first parent's, and with the midpoint when none has any.

    Args:
        slope: how sharply scores tell, 10 in the paper.
        midpoint: the score of weight one half, .5 in the paper.
    """

    def __init__(self, slope: float = 10.0, midpoint: float = 0.5) -> None:
        self.slope = slope
        self.midpoint = midpoint

    def probabilities(self, archive: Archive) -> dict[str, float]:
        """Variant -> probability of being chosen, in the archive's order."""
        shares: dict[str, float] = {}
        for variant in _members(archive):
            quality = 1 / (1 + math.exp(-self.slope * (self._score(archive, variant) - self.midpoint)))
            shares[variant.id] = quality / (1 + len(archive.children(variant.id)))
        total = sum(shares.values())
        return {id: share / total for id, share in shares.items()}

    def choose(self, archive: Archive, rng: Random) -> Variant:
        """Draws a parent.

        Raises:
            UsageError: the archive is empty.
        """
        chances = self.probabilities(archive)
        return archive[rng.choices(list(chances), list(chances.values()))[0]]

    def _score(self, archive: Archive, variant: Variant) -> float:
        while variant.score is None and variant.parents:
            variant = archive[variant.parents[0]]
        return self.midpoint if variant.score is None else variant.score


class BestSelection:
    """The champion, always: a hill climb, without stepping stones."""

    def choose(self, archive: Archive, rng: Random) -> Variant:
        """The champion; the first variant where there is none.

        Raises:
            UsageError: the archive is empty.
        """
        return archive.champion or _members(archive)[0]


class RandomSelection:
    """Every variant alike."""

    def choose(self, archive: Archive, rng: Random) -> Variant:
        """Draws a parent.

        Raises:
            UsageError: the archive is empty.
        """
        return rng.choice(_members(archive))


SELECTIONS: dict[str, type[Selection]] = {
    "dgm": DgmSelection,
    "best": BestSelection,
    "random": RandomSelection,
}
"""Rules by the name that a run file gives them."""


def _members(archive: Archive) -> list[Variant]:
    """The variants that may be changed: all but those that a guard vetoed."""
    members = [variant for variant in archive if variant.status != "vetoed"]
    if not members:
        raise UsageError("an empty archive has no parent to choose")
    return members
