"""GEPA's policy (arXiv 2507.19457, algorithm 2): parents are drawn among those that are best at something."""

from __future__ import annotations

from collections.abc import Mapping

from moevolve.journal.averages import mean
from moevolve.selection.policy import Weighted
from moevolve.selection.tree import Tree


class GepaPareto(Weighted):
    """p proportional to the number of instances that a node wins, once those are left out whose every win is shared with
    another one. Where no open node has been scored on an instance, all are alike."""

    def weights(self, tree: Tree) -> Mapping[str, float]:
        winners = front(tree)
        kept = undominated(tree, winners)
        counts = {
            node.id: float(sum(node.id in best for best in winners.values() if node.id in kept))
            for node in tree.members
        }
        return counts if any(counts.values()) else dict.fromkeys(counts, 1.0)


def front(tree: Tree) -> dict[str, set[str]]:
    """Instance -> the open nodes with its best score."""
    best: dict[str, float] = {}
    winners: dict[str, set[str]] = {}
    for node in tree.members:
        for instance, score in node.scores.items():
            if instance not in best or score > best[instance]:
                best[instance], winners[instance] = score, {node.id}
            elif score == best[instance]:
                winners[instance].add(node.id)
    return winners


def undominated(tree: Tree, winners: Mapping[str, set[str]]) -> set[str]:
    """The winners that are left when, the lowest mean first, each is dropped all of whose instances others win as well."""
    kept = set().union(*winners.values()) if winners else set()
    order = [node for node in tree.members if node.id in kept]
    for node in sorted(order, key=lambda node: mean(list(node.scores.values()))):
        wins = [best & kept for best in winners.values() if node.id in best]
        if all(len(best) > 1 for best in wins):
            kept.discard(node.id)
    return kept
