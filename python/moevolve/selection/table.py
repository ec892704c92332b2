"""Selection policies by the name that a run file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from moevolve.errors import UsageError
from moevolve.selection.clade import Hgm
from moevolve.selection.islands import MapElitesIslands
from moevolve.selection.pareto import GepaPareto
from moevolve.selection.policy import Selection, Weighted
from moevolve.selection.sigmoid import Dgm, DgmHCode, DgmHPaper, Shinka
from moevolve.selection.tree import Tree


class Best(Weighted):
    """The champion, or else the best score: a hill climb, without stepping stones."""

    def weights(self, tree: Tree) -> Mapping[str, float]:
        open_ones = {node.id for node in tree.members}
        best = tree.champion if tree.champion in open_ones else self.final(tree)
        return {node.id: float(node.id == best) for node in tree.members}


class Uniform(Weighted):
    """Every node alike."""

    def weights(self, tree: Tree) -> Mapping[str, float]:
        return {node.id: 1.0 for node in tree.members}


POLICIES: dict[str, Callable[[], Selection]] = {
    "dgm": Dgm,
    "dgm-h-paper": DgmHPaper,
    "dgm-h-code": DgmHCode,
    "hgm": Hgm,
    "shinka": Shinka,
    "gepa-pareto": GepaPareto,
    "map-elites-islands": MapElitesIslands,
    "best": Best,
    "random": Uniform,
}


def policy(name: str) -> Selection:
    """The policy of this name.

    Raises:
        UsageError: there is none; lists those there are.
    """
    if name not in POLICIES:
        raise UsageError(f"no selection policy {name!r}: policies are {', '.join(POLICIES)}")
    return POLICIES[name]()
