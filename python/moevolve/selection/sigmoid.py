"""Policies that weigh a node by a sigmoid of its score and by how many children it has."""

from __future__ import annotations

import math
from collections.abc import Mapping

from moevolve.journal.averages import mean, median
from moevolve.selection.policy import Weighted
from moevolve.selection.tree import Tree

SLOPE = 10.0
"""How sharply scores tell, the same in all four."""
TOP = 3
"""Best scores whose mean is DGM-H's midpoint."""
LEAST_SPREAD = 1e-6
"""Of Shinka's scale, where most scores are equal."""


class _Sigmoid(Weighted):
    """p proportional to sigmoid(slope * (score - midpoint) / scale) * novelty(children). No open node is excluded for its
    score; one without a score of its own (a child by weights, an edit that no score can show) counts with its nearest
    first parent's, and with the midpoint where none has any."""

    def weights(self, tree: Tree) -> Mapping[str, float]:
        scores = {node.id: tree.score(node.id) if node.score is None else node.score for node in tree.members}
        known = [score for score in scores.values() if score is not None]
        midpoint = self.midpoint(known)
        scale = self.scale(known, midpoint)
        found: dict[str, float] = {}
        births = tree.births
        novelty = {children: self.novelty(children) for children in set(births.values())}
        for id, score in scores.items():
            quality = 0.5 if score is None else sigmoid(_steepness(score, midpoint, scale))
            found[id] = quality * novelty[births[id]]
        if not any(found.values()):
            # Scores so far below the midpoint that their weights vanish are equals.
            return dict.fromkeys(found, 1.0)
        return found

    def midpoint(self, known: list[float]) -> float:
        """The score of weight one half."""
        raise NotImplementedError

    def scale(self, known: list[float], midpoint: float) -> float:
        """What a difference of scores is measured in."""
        return 1.0

    def novelty(self, children: int) -> float:
        """What many children take off."""
        return 1 / (1 + children)


class Dgm(_Sigmoid):
    """The Darwin Goedel Machine's rule (arXiv 2505.22954, appendix A): sigmoid(10 (score - .5)) / (1 + children)."""

    def midpoint(self, known: list[float]) -> float:
        return 0.5


class DgmHPaper(_Sigmoid):
    """HyperAgents' rule as the paper has it (arXiv 2603.19461): the midpoint is the mean of the three best scores."""

    def midpoint(self, known: list[float]) -> float:
        return mean(sorted(known)[-TOP:]) if known else 0.5


class DgmHCode(DgmHPaper):
    """HyperAgents' rule as its published code has it: children take off exp(-(children / 8)^3), little for the first
    four."""

    def novelty(self, children: int) -> float:
        return math.exp(-((children / 8) ** 3))


class Shinka(_Sigmoid):
    """ShinkaEvolve's rule (arXiv 2509.19349): the midpoint is the median, a difference is measured in median absolute
    deviations."""

    def midpoint(self, known: list[float]) -> float:
        return median(known) if known else 0.5

    def scale(self, known: list[float], midpoint: float) -> float:
        if not known:
            return 1.0
        return max(LEAST_SPREAD, median([abs(score - midpoint) for score in known]))


def _steepness(score: float, midpoint: float, scale: float) -> float:
    """SLOPE * (score - midpoint) / scale, infinite where that is too large a number, for any finite ones."""
    found = SLOPE * (score - midpoint) / scale
    # Quarters of finite numbers have a finite difference.
    return found if math.isfinite(found) else SLOPE * ((score / 4 - midpoint / 4) / (scale / 4))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else (power := math.exp(max(x, -700.0))) / (1 + power)
