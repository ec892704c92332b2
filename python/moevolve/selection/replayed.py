"""Frozen replay: a policy tried on the tree that a run recorded, without new attempts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean

import msgspec

from moevolve.journal.averages import mean as average
from moevolve.records import (
    Chosen,
    Gated,
    Improved,
    Rated,
    Record,
    RunStarted,
    Screened,
    Selected,
    SkillScore,
    VariantAdded,
)
from moevolve.selection.policy import Draw, Expand, Selection
from moevolve.selection.tree import Node, Tree


def recorded(records: Iterable[Record]) -> Tree:
    """The whole tree of a run, from its journal's records.

    A child's step is that of the selection on record before it; where an older journal has none, each generation, which
    ends with its choice, is one. In an optimisation run each child has an evaluation, and so a step, of its own.
    """
    ratings: dict[str, list[float]] = {}
    nodes: dict[str, Node] = {}
    champion, step, selected = "", 0, False

    def counted(id: str, skills: dict[str, SkillScore]) -> None:
        node = nodes[id]
        tried = sum(share.n for share in skills.values())
        won = fmean(share.score for share in skills.values()) * tried
        nodes[id] = msgspec.structs.replace(
            node,
            wins=node.wins + won,
            losses=node.losses + tried - won,
            scores={path: share.score for path, share in skills.items()},
        )

    for record in records:
        match record:
            case RunStarted():
                champion = record.champion
            case VariantAdded():
                nodes[record.variant] = Node(
                    id=record.variant,
                    parent=record.parents[0] if record.parents else None,
                    score=record.score,
                    step=step if record.level == "program" else None,
                )
            case Rated():
                step = max(step, record.evaluation)
                node = nodes[record.variant]
                rated = ratings.setdefault(record.variant, [])
                if record.score is not None:
                    rated.append(record.score)
                    # Of several scores the first one is the luckiest of many.
                    node = msgspec.structs.replace(node, score=average(rated[1:] or rated))
                if record.purpose == "candidate":
                    scores = {k: float(v) for k, v in record.metrics.items() if type(v) in (int, float)}
                    born = record.evaluation if node.parent is not None else None
                    node = msgspec.structs.replace(node, scores=scores, step=born)
                champion = champion or record.variant
                nodes[record.variant] = node
            case Improved(decision="promote"):
                champion = record.candidate
            case Selected(action="expand"):
                step, selected = record.step, True
            case Selected():
                counted(record.variant, record.skills)
            case Screened():
                nodes[record.variant] = msgspec.structs.replace(nodes[record.variant], score=record.score)
                if record.skills:
                    counted(record.variant, record.skills)
                else:
                    nodes[record.variant] = msgspec.structs.replace(
                        nodes[record.variant],
                        wins=record.score * record.n,
                        losses=(1 - record.score) * record.n,
                    )
            case Chosen():
                if record.baseline and champion in nodes:
                    counted(champion, record.baseline)
                if record.chosen in nodes and record.baseline and record.gain is not None:
                    # The best of several looks better than it is: what ranks it is its corrected score.
                    mean = fmean(share.score for share in record.baseline.values())
                    score = min(1.0, max(0.0, mean + record.gain))
                    nodes[record.chosen] = msgspec.structs.replace(nodes[record.chosen], score=score)
                step += not selected
            case Gated(decision="promote"):
                champion = record.candidate
            case Gated(decision="veto"):
                nodes[record.candidate] = msgspec.structs.replace(nodes[record.candidate], open=False)
            case _:
                pass
    # Who counts successes is told which share of an evaluator's programs each is better than.
    ordered = sorted(ratings, key=lambda id: -math.inf if (score := nodes[id].score) is None else score)
    for place, id in enumerate(ordered):
        rank, looks = place / max(1, len(ordered) - 1), max(1, len(ratings[id]))
        nodes[id] = msgspec.structs.replace(nodes[id], wins=rank * looks, losses=(1 - rank) * looks)
    return Tree(list(nodes.values()), champion or None, step)


class Revealed(msgspec.Struct, frozen=True):
    """What a policy found on a recorded tree."""

    best: list[float]
    """Best score known after each step, the first node's own before the first one among them."""
    order: list[str]
    """Whose children each step revealed."""


def reveal(tree: Tree, policy: Selection, seed: int) -> Revealed:
    """Lets a policy walk a recorded tree: a step at a node reveals the children of its next recorded step there.

    A node without further children is closed, but its counts stand; the walk ends when all is revealed. Nothing is drawn
    but the policy's choices.
    """
    waiting: dict[str, list[list[Node]]] = {node.id: _groups(tree.children(node.id)) for node in tree}
    shown = {node.id for node in tree if node.parent is None}
    # Before anything is scored the best is nothing, or less where scores can be.
    least = min((0.0, *(node.score for node in tree if node.score is not None)))
    best = [max((node.score for node in tree if node.id in shown and node.score is not None), default=least)]
    order: list[str] = []
    while any(waiting[id] for id in shown):
        now = Tree(
            [
                msgspec.structs.replace(node, open=node.open and bool(waiting[node.id]), exhausted=True)
                for node in tree
                if node.id in shown
            ],
            None,
            len(order),
        )
        if not any(node.open for node in now):
            break
        draw = Draw(seed, 0, "replay", len(order))
        action = policy.decide(now, draw)
        assert isinstance(action, Expand), "no node of a recorded tree is left to evaluate"
        children = waiting[action.node].pop(0)
        shown |= {child.id for child in children}
        order.append(action.node)
        best.append(max([best[-1], *(child.score for child in children if child.score is not None)]))
    return Revealed(best, order)


def _groups(children: list[Node]) -> list[list[Node]]:
    """Children by the step that made them; one by weights is its own group."""
    groups: list[list[Node]] = []
    for child in children:
        if groups and child.step is not None and groups[-1][0].step == child.step:
            groups[-1].append(child)
        else:
            groups.append([child])
    return groups
