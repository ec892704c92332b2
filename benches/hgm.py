"""Selection policies on a synthetic landscape of agents that change themselves, over hundreds of seeds in minutes.

The landscape has the property that the Huxley-Goedel Machine was made for (arXiv 2510.21614): how well an agent does its
tasks says little about how good its descendants become. An agent has a utility u, its success rate on tasks, and a
productivity m, the mean change of its children's log-odds; a child inherits m up to noise, and its own u deviates by more
than m. One child in ten is broken. Every evaluation is one task: a success with probability u. All policies have the same
number of evaluations; those that evaluate a child as it is made spend ten on each.

The policy `hgm` works by an estimate of each clade's metaproductivity (CMP): its successes over its evaluations. The true
CMP that it is compared with is, as in the paper, the best utility in the clade that the search has grown; beside it stands
the expected best of clades that are grown anew from the agent, which no search over one tree can know as well.

    python benches/hgm.py [--seeds 200] [--evaluations 800] [--policies hgm,dgm,random] [--require]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from random import Random
from statistics import fmean, stdev

import msgspec

from moevolve.randomness import rng
from moevolve.selection.clade import metaproductivity
from moevolve.selection.policy import Budget, Draw, Expand
from moevolve.selection.table import policy
from moevolve.selection.tree import Node, Tree
from promises import Row, told

START = 0.3
"""Utility of the first agent."""
DEVIATION = 0.7
"""Of a child's log-odds from its parent's, beside the parent's productivity."""
DRIFT = 0.3
"""Of a child's productivity from its parent's."""
BROKEN = 0.1
STAGE = 10
"""Evaluations of a child where a policy evaluates it as it is made: the first stage of the Darwin Goedel Machine."""
FUTURES, SIZE = 40, 20
"""Clades that a true CMP is the mean of, and their agents."""


class Agent(msgspec.Struct, frozen=True):
    """What an agent is; no policy sees it."""

    utility: float
    productivity: float

    def child(self, draws: Random) -> Agent:
        """One that it makes."""
        productivity = self.productivity + draws.gauss(0, DRIFT)
        if draws.random() < BROKEN:
            return Agent(0.0, productivity)
        odds = math.log(max(self.utility, 0.01) / (1 - min(self.utility, 0.99)))
        odds += self.productivity + draws.gauss(0, DEVIATION)
        return Agent(1 / (1 + math.exp(-max(-5.0, min(5.0, odds)))), productivity)

    def metaproductivity(self, draws: Random) -> float:
        """The expected best utility of a clade that grows from it, each new agent a child of a random one."""
        best = []
        for _ in range(FUTURES):
            clade = [self]
            for _ in range(SIZE):
                clade.append(draws.choice(clade).child(draws))
            best.append(max(agent.utility for agent in clade))
        return fmean(best)


class Found(msgspec.Struct, frozen=True):
    """What one search came to."""

    final: float
    """True utility of the agent that the policy hands back."""
    best: float
    """That of the best agent there was."""
    agents: int
    correlation: float | None
    """Of true and estimated CMP over the agents, weighted by evaluations of the clade; None unless it was asked for."""
    anew: float | None
    """The same with clades that are grown anew."""


def search(name: str, evaluations: int, with_cmp: bool, seed: int) -> Found:
    """One search of a policy."""
    chosen = policy(name)
    agents = {"a0": Agent(START, 0.0)}
    nodes = {"a0": Node(id="a0")}
    spent = step = 0

    def evaluate(id: str) -> None:
        nonlocal spent
        won = (
            rng(seed, "task", id, nodes[id].wins + nodes[id].losses != 0, spent).random() < agents[id].utility
        )
        wins, losses = nodes[id].wins + won, nodes[id].losses + (not won)
        nodes[id] = msgspec.structs.replace(nodes[id], wins=wins, losses=losses, score=wins / (wins + losses))
        spent += 1

    for _ in range(STAGE):
        evaluate("a0")
    while spent < evaluations:
        tree = Tree(list(nodes.values()), None, step)
        action = chosen.decide(tree, Draw(seed, 0, "select", step), Budget(evaluations, spent))
        step += 1
        if not isinstance(action, Expand):
            evaluate(action.node)
            continue
        id = f"a{len(nodes)}"
        agents[id] = agents[action.node].child(
            rng(seed, "child", action.node, len(tree.children(action.node)))
        )
        nodes[id] = Node(id=id, parent=action.node, step=step - 1)
        for _ in range(1 if name == "hgm" else STAGE):
            if spent < evaluations:
                evaluate(id)
    tree = Tree(list(nodes.values()), None, step)
    correlation, anew = correlated(tree, agents, seed) if with_cmp else (None, None)
    return Found(
        final=agents[chosen.final(tree)].utility,
        best=max(agent.utility for agent in agents.values()),
        agents=len(nodes),
        correlation=correlation,
        anew=anew,
    )


def correlated(tree: Tree, agents: dict[str, Agent], seed: int) -> tuple[float, float]:
    """Correlations of the estimated CMP, weighted by evaluations: with that of the grown clade, and of clades grown anew."""
    estimates, grown, anew, weights = [], [], [], []
    for node in tree:
        estimate = metaproductivity(tree, node.id)
        if estimate is not None:
            clade = [node.id, *(each.id for each, _ in tree.descendants(node.id))]
            estimates.append(estimate)
            grown.append(max(agents[id].utility for id in clade))
            anew.append(agents[node.id].metaproductivity(rng(seed, "future", node.id)))
            weights.append(sum(tree.clades[node.id]))
    return weighted_correlation(estimates, grown, weights), weighted_correlation(estimates, anew, weights)


def weighted_correlation(xs: Sequence[float], ys: Sequence[float], weights: Sequence[float]) -> float:
    """Pearson's, each pair with its weight."""
    total = math.fsum(weights)
    x = math.fsum(w * a for w, a in zip(weights, xs, strict=True)) / total
    y = math.fsum(w * b for w, b in zip(weights, ys, strict=True)) / total
    both = math.fsum(w * (a - x) * (b - y) for w, a, b in zip(weights, xs, ys, strict=True))
    own = math.fsum(w * (a - x) ** 2 for w, a in zip(weights, xs, strict=True))
    other = math.fsum(w * (b - y) ** 2 for w, b in zip(weights, ys, strict=True))
    return both / math.sqrt(own * other) if own > 0 and other > 0 else 0.0


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval."""
    return fmean(values), 1.96 * stdev(values) / math.sqrt(len(values))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=800)
    parser.add_argument(
        "--policies", default="hgm,dgm,random", help="the first is compared with the next, and so on"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit 1 where a promise is not kept")
    options = parser.parse_args()
    names = options.policies.split(",")
    found: dict[str, list[Found]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for name in names:
            one = partial(search, name, options.evaluations, name == "hgm")
            found[name] = list(pool.map(one, range(options.seeds), chunksize=5))
            if not options.json:
                (mean, half), (best, _) = (
                    interval([getattr(each, what) for each in found[name]]) for what in ("final", "best")
                )
                agents = fmean(each.agents for each in found[name])
                print(
                    f"{name:<20} final {mean:.3f} ± {half:.3f}   best there {best:.3f}   {agents:.0f} agents"
                )
    rows = []
    for better, worse in zip(names, names[1:], strict=False):
        pairs = [mine.final - other.final for mine, other in zip(found[better], found[worse], strict=True)]
        mean, half = interval(pairs)
        rows.append(
            Row(f"{better} above {worse}, lower bound", mean - half, 0.0, False, f"{mean:+.3f} ± {half:.3f}")
        )
    values = [each.correlation for each in found.get("hgm", []) if each.correlation is not None]
    if values:
        mean, half = interval(values)
        note = f"± {half:.3f} over {len(values)} trees"
        rows.append(Row("correlation of estimated and true CMP", mean, 0.8, False, note))
        anew = [each.anew for each in found["hgm"] if each.anew is not None]
        if not options.json:
            print("with clades grown anew the correlation is {:.3f} ± {:.3f}".format(*interval(anew)))
    return told(rows, options.json, options.require)


if __name__ == "__main__":
    sys.exit(main())
