"""A selection policy: which node of an archive is changed next, or looked at once more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Protocol

import msgspec

from moevolve.randomness import rng
from moevolve.selection.tree import Tree


class Draw(msgspec.Struct, frozen=True):
    """Where a choice takes its randomness from: a function of (run seed, cycle, stage, index) alone."""

    seed: int
    cycle: int
    stage: str
    index: int

    def rng(self, *more: int | str) -> Random:
        """A generator of its own for each path of further names."""
        return rng(self.seed, self.cycle, self.stage, self.index, *more)


class Expand(msgspec.Struct, frozen=True):
    """Make a child of this node."""

    node: str


class Evaluate(msgspec.Struct, frozen=True):
    """Evaluate this node once more."""

    node: str


Action = Expand | Evaluate


class Budget(msgspec.Struct, frozen=True):
    """Evaluations of a whole search, and how many of them were made."""

    total: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        return max(0.0, self.total - self.spent)


class Selection(Protocol):
    """A rule: a pure function of a tree and a draw."""

    def choose(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> str:
        """The node to change.

        Raises:
            UsageError: the tree has no node that may be chosen.
        """
        ...

    def decide(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> Action:
        """What to do next, where changing a node and evaluating one are decided apart."""
        ...

    def probabilities(self, tree: Tree) -> dict[str, float] | None:
        """Open node -> probability of being chosen, in the tree's order; None where there is no closed form."""
        ...

    def final(self, tree: Tree) -> str:
        """The node that a search hands back in the end."""
        ...


class Weighted:
    """Base of policies that draw a parent by weights; a child is evaluated as it is made."""

    def weights(self, tree: Tree) -> Mapping[str, float]:
        """Open node -> weight, not negative, and not all zero."""
        raise NotImplementedError

    def probabilities(self, tree: Tree) -> dict[str, float] | None:
        """The weights over their sum."""
        weights = self.weights(tree)
        total = sum(weights.values())
        return {id: weight / total for id, weight in weights.items()}

    def choose(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> str:
        """A node drawn by the probabilities."""
        chances = self.probabilities(tree)
        assert chances is not None, "weights have a closed form"
        return draw.rng().choices(list(chances), list(chances.values()))[0]

    def decide(self, tree: Tree, draw: Draw, budget: Budget | None = None) -> Action:
        """Always a child."""
        return Expand(self.choose(tree, draw, budget))

    def final(self, tree: Tree) -> str:
        """The best score; of equals the first."""
        return max(tree.members, key=lambda node: -math.inf if node.score is None else node.score).id
