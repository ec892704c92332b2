"""An archive as selection policies see it: a tree of nodes with what was measured of each, frozen at one moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from moevolve.errors import UsageError


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One member of an archive; what was not measured of it is left out."""

    id: str
    parent: str | None = None
    """The first parent; None for the first node."""
    score: float | None = None
    """Its own estimate of quality."""
    wins: float = 0.0
    """Evaluations of its own that succeeded, fractions included."""
    losses: float = 0.0
    """Evaluations of its own that did not."""
    scores: dict[str, float] = {}
    """Instance (a task, a skill, a metric) -> score on it, for policies that keep specialists."""
    features: dict[str, float] = {}
    """Dimension -> value, for policies that keep a grid."""
    step: int | None = None
    """The step of selection that its parent was chosen in; None for the first node."""
    open: bool = True
    """Whether it may be chosen: not where a guard vetoed it, or it does not run."""
    exhausted: bool = False
    """Whether there is nothing left that it could be evaluated on."""


class Tree:
    """Nodes in order of birth, parents before children.

    Args:
        nodes: the members.
        champion: whom new ones are compared with; None where there is none yet.
        step: how many steps of selection were made before.

    Raises:
        UsageError: an id twice, a parent that does not come before its child, or a score that is no finite number.
    """

    def __init__(self, nodes: Sequence[Node], champion: str | None = None, step: int = 0) -> None:
        self.nodes = list(nodes)
        self.champion = champion
        self.step = step
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = {}
        total = 0.0
        for node in self.nodes:
            total += (node.score or 0.0) + node.wins + node.losses
            if node.scores:
                total += sum(node.scores.values())
            if node.id in self._nodes:
                raise UsageError(f"node {node.id} is in the tree twice")
            if node.parent is not None:
                if node.parent not in self._nodes:
                    raise UsageError(f"node {node.id} comes before its parent {node.parent}")
                self._children[node.parent].append(node.id)
            self._nodes[node.id] = node
            self._children[node.id] = []
        # A finite sum has no part that is not; finite numbers may add up to more than there is.
        for node in () if math.isfinite(total) else self.nodes:
            if not all(
                map(math.isfinite, (node.score or 0.0, node.wins, node.losses, *node.scores.values()))
            ):
                raise UsageError(f"node {node.id} has a score that is no finite number")

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, id: str) -> Node:
        """The node called `id`.

        Raises:
            UsageError: there is none.
        """
        if id not in self._nodes:
            raise UsageError(f"no node {id!r} in the tree")
        return self._nodes[id]

    def __contains__(self, id: object) -> bool:
        return id in self._nodes

    @cached_property
    def members(self) -> list[Node]:
        """The nodes that may be chosen.

        Raises:
            UsageError: there is none.
        """
        members = [node for node in self.nodes if node.open]
        if not members:
            raise UsageError("an empty archive has no parent to choose")
        return members

    def children(self, id: str) -> list[Node]:
        """Nodes whose first parent this is, oldest first."""
        return [self._nodes[child] for child in self._children[self[id].id]]

    @cached_property
    def births(self) -> dict[str, int]:
        """Node -> how many children it has."""
        return {id: len(children) for id, children in self._children.items()}

    def score(self, id: str) -> float | None:
        """A node's score, or its nearest first parent's that has one; None where none has."""
        node: Node | None = self[id]
        while node is not None:
            if node.score is not None:
                return node.score
            node = None if node.parent is None else self._nodes[node.parent]
        return None

    @cached_property
    def clades(self) -> dict[str, tuple[float, float]]:
        """Node -> (wins, losses) of itself and all its descendants."""
        wins = {node.id: [node.wins] for node in self.nodes}
        losses = {node.id: [node.losses] for node in self.nodes}
        sums: dict[str, tuple[float, float]] = {}
        for node in reversed(self.nodes):
            sums[node.id] = math.fsum(wins[node.id]), math.fsum(losses[node.id])
            if node.parent is not None:
                wins[node.parent].append(sums[node.id][0])
                losses[node.parent].append(sums[node.id][1])
        return sums

    def descendants(self, id: str) -> list[tuple[Node, int]]:
        """(descendant, distance), nearest first; the node itself is none."""
        found: list[tuple[Node, int]] = []
        level, distance = self.children(id), 1
        while level:
            found += [(node, distance) for node in level]
            level = [child for node in level for child in self.children(node.id)]
            distance += 1
        return found

    @property
    def evaluations(self) -> float:
        """Evaluations of all nodes together."""
        return math.fsum(node.wins + node.losses for node in self.nodes)
