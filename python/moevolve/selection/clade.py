"""The Huxley-Goedel Machine's policy (arXiv 2510.21614): a node is worth what itself and its descendants, its clade, do."""

from __future__ import annotations

import math
from random import Random

from moevolve.selection.policy import Action, Budget, Draw, Evaluate, Expand
from moevolve.selection.tree import Node, Tree

WIDENING = 0.6
"""Exponent of the evaluations against which nodes are counted."""
QUANTILE = 0.05
"""Of a node's posterior, by which the search's result is picked."""
DISCOUNT, FEWEST = 0.6, 3
"""Of a descendant's gain for each step of distance, and the least descendants, where a node is chosen for a transfer."""


class Hgm:
    """Thompson sampling over clades for whom to change, over nodes for whom to evaluate.

    A child is made while evaluations^.6 >= nodes; else one more evaluation. Both draw from Beta(t (1 + S), t (1 + F)) with
    successes S and failures F of the clade, or of the node, and t = total budget / what is left of it, which makes late
    choices greedier.

    Args:
        unit: evaluations that count as one where nodes are counted against them; the batch, where tasks come in batches.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self.unit = unit

    def probabilities(self, tree: Tree) -> dict[str, float] | None:
        """None: which of several draws is the largest has no closed form."""
        return None

    def choose(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> str:
        """The open node with the largest draw for its clade; each node's draw is its own, whoever else is there."""
        heat = temperature(budget)
        return max(
            tree.members,
            key=lambda node: _thompson(*tree.clades[node.id], heat, draw.rng("clade", node.id)),
        ).id

    def decide(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> Action:
        """A child if the evaluations so far support one more node, or nobody is left to evaluate."""
        waiting = [node for node in tree.members if not node.exhausted]
        if not waiting or (tree.evaluations / self.unit) ** WIDENING >= len(tree):
            return Expand(self.choose(tree, draw, budget))
        heat = temperature(budget)
        chosen = max(
            waiting, key=lambda node: _thompson(node.wins, node.losses, heat, draw.rng("node", node.id))
        )
        return Evaluate(chosen.id)

    def final(self, tree: Tree) -> str:
        """The node whose posterior Beta(1 + S, 1 + F) has the highest lower quantile; of equals the first."""
        return max(tree.members, key=lambda node: beta_quantile(QUANTILE, 1 + node.wins, 1 + node.losses)).id


def temperature(budget: Budget | None) -> float:
    """Total budget over what is left of it, at least 1; 1 without a budget."""
    if budget is None or budget.total <= 0:
        return 1.0
    return budget.total / max(1.0, budget.left)


def metaproductivity(tree: Tree, id: str) -> float | None:
    """A clade's estimated metaproductivity: its successes over its evaluations; None before the first one."""
    wins, losses = tree.clades[id]
    return wins / (wins + losses) if wins + losses else None


def transfer(tree: Tree) -> Node | None:
    """The node to export for another domain (HyperAgents): mean over descendants of their gain, less by .6 for each step.

    None where no node has three descendants with a score.
    """
    best: tuple[float, Node] | None = None
    for node in tree.members:
        own = tree.score(node.id)
        gains = [
            (each.score - own) * DISCOUNT**distance
            for each, distance in tree.descendants(node.id)
            if own is not None and each.score is not None
        ]
        if len(gains) >= FEWEST and (best is None or math.fsum(gains) / len(gains) > best[0]):
            best = math.fsum(gains) / len(gains), node
    return best[1] if best else None


def _thompson(wins: float, losses: float, heat: float, rng: Random) -> float:
    return rng.betavariate(heat * (1 + wins), heat * (1 + losses))


def beta_quantile(share: float, a: float, b: float) -> float:
    """The quantile of a Beta distribution, by bisection on its distribution function."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) and Lentz's method."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d, tiny)
            c = _off_zero(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return min(1.0, math.exp(log) * fraction / a)


def _off_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
