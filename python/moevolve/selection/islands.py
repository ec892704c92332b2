"""Islands with a MAP-Elites grid each, as OpenEvolve has them: populations that breed apart and send their best around."""

from __future__ import annotations

import math
from collections.abc import Mapping

from moevolve.journal.averages import SCALE
from moevolve.selection.policy import Weighted
from moevolve.selection.tree import Node, Tree

ISLANDS = 5
BINS = 10
EXPLORE, EXPLOIT, WEIGHTED = 0.2, 0.7, 0.1
"""How often a parent is any member of the island, an elite of its grid, a member by its score."""
MIGRATION, MIGRANTS = 50, 0.1
"""Births between two migrations, and the share of an island's members, the best, that the next one gets to see."""


class MapElitesIslands(Weighted):
    """Steps take turns over the islands; a node lives where its parent was drawn, the first node everywhere.

    On the island of a step: any member with probability .2, an elite with .7, a member by its score with .1. An elite is
    the best of its cell; cells divide the range of each feature into ten.
    """

    def __init__(self, islands: int = ISLANDS, bins: int = BINS) -> None:
        self.islands = islands
        self.bins = bins

    def weights(self, tree: Tree) -> Mapping[str, float]:
        here = self.residents(tree)[tree.step % self.islands]
        members = [node for node in tree.members if node.id in here] or tree.members
        elites = set(self.elites(members).values())
        scores = {node.id: _score(tree, node) for node in members}
        least = min(scores.values())
        total = sum(score - least for score in scores.values())
        if not math.isfinite(total):
            scores = {id: score * SCALE for id, score in scores.items()}
            least = min(scores.values())
            total = sum(score - least for score in scores.values())
        found = dict.fromkeys((node.id for node in tree.members), 0.0)
        for node in members:
            by_score = (scores[node.id] - least) / total if total > 0 else 1 / len(members)
            found[node.id] = EXPLORE / len(members) + WEIGHTED * by_score
            found[node.id] += EXPLOIT / len(elites) if node.id in elites else 0.0
        return found

    def residents(self, tree: Tree) -> list[set[str]]:
        """The members of each island."""
        islands: list[list[Node]] = [[] for _ in range(self.islands)]
        for born, node in enumerate(tree.nodes):
            if born and born % MIGRATION == 0:
                best = [
                    sorted(island, key=lambda each: -_score(tree, each))[
                        : max(1, int(MIGRANTS * len(island)))
                    ]
                    for island in islands
                ]
                for number, migrants in enumerate(best):
                    there = islands[(number + 1) % self.islands]
                    there += [migrant for migrant in migrants if migrant not in there]
            homes = range(self.islands) if node.step is None else (node.step % self.islands,)
            for home in homes:
                islands[home].append(node)
        return [{node.id for node in island} for island in islands]

    def elites(self, members: list[Node]) -> dict[tuple[int, ...], str]:
        """Cell -> the best of its nodes; of equals the first. Nodes without a feature have its first bin."""
        names = sorted({name for node in members for name in node.features})
        low = {name: min(node.features[name] for node in members if name in node.features) for name in names}
        high = {name: max(node.features[name] for node in members if name in node.features) for name in names}

        def bin_of(node: Node, name: str) -> int:
            span = high[name] - low[name]
            if name not in node.features or span <= 0:
                return 0
            place = self.bins * (node.features[name] - low[name]) / span
            if not math.isfinite(place):
                least, most = low[name] * SCALE, high[name] * SCALE
                place = self.bins * (node.features[name] * SCALE - least) / (most - least)
            return min(self.bins - 1, int(place))

        found: dict[tuple[int, ...], Node] = {}
        for node in members:
            cell = tuple(bin_of(node, name) for name in names)
            if cell not in found or _own(node) > _own(found[cell]):
                found[cell] = node
        return {cell: node.id for cell, node in found.items()}


def _own(node: Node) -> float:
    return -math.inf if node.score is None else node.score


def _score(tree: Tree, node: Node) -> float:
    score = tree.score(node.id)
    return 0.0 if score is None else score
