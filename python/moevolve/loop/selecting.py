"""The step of a run's selection policy: the archive as a tree, and the parent that the policy chooses in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.config import Config
from moevolve.journal.archive import Variant
from moevolve.loop import own_selection
from moevolve.loop.improvers import files_of
from moevolve.records import Selected
from moevolve.rollouts.attempts import Attempt, answered
from moevolve.rollouts.scoring import mean, score
from moevolve.selection.clade import Hgm
from moevolve.selection.policy import Draw, Evaluate, Selection
from moevolve.selection.table import policy
from moevolve.selection.tree import Node, Tree

if TYPE_CHECKING:
    from moevolve.loop.context import RunContext

AUTHORS = "clade"
"""Policy on record of the choice among ways of improving."""
MOST_EVALUATIONS = 8
"""Variants that a policy may look at once more before it names a parent."""


def policy_of(config: Config) -> Selection:
    """The policy that a run's configuration names."""
    if config.selection.policy == own_selection.GENOME:
        return policy(own_selection.FALLBACK)
    if config.selection.policy == "hgm":
        # A screening is one evaluation: its tasks come together.
        return Hgm(unit=config.evolve.screen)
    return policy(config.selection.policy)


def tree(run: RunContext, step: int) -> Tree:
    """The run's archive before a step of selection."""
    return Tree([_node(run, variant) for variant in run.archive], run.champion.id, step)


def _node(run: RunContext, variant: Variant) -> Node:
    files = run.store.genome(variant.program).files
    return Node(
        id=variant.id,
        parent=variant.parents[0] if variant.parents else None,
        score=variant.score,
        wins=variant.wins,
        losses=variant.losses,
        scores=variant.skills,
        features={"size": float(sum(map(len, files.values()))), "files": float(len(files))},
        step=variant.step,
        open=variant.status != "vetoed",
    )


def select(run: RunContext, cycle: int, generation: int) -> tuple[Variant, Variant, int]:
    """The parent of a generation, the variant whose way of improving writes its children, and the number of the step;
    evaluates others first where the policy wants that."""
    step = (cycle - 1) * run.config.evolve.generations + generation
    name = run.config.selection.policy
    if name == own_selection.GENOME:
        return _by_program(run, cycle, generation, step)
    for turn in range(MOST_EVALUATIONS + 1):
        # The first draw's key has no turn: most policies make no other.
        stage = f"parent/{turn}" if turn else "parent"
        draw = Draw(run.config.seed, cycle, stage, generation)
        now = tree(run, step)
        action = run.selection.decide(now, draw)
        if not isinstance(action, Evaluate) or turn == MOST_EVALUATIONS:
            break
        _evaluate(run, cycle, generation, step, turn, action.node)
    parent = action.node if not isinstance(action, Evaluate) else run.selection.choose(now, draw)
    chances = run.selection.probabilities(now)
    chance = None if chances is None else chances[parent]
    chosen = [Selected(cycle=cycle, step=step, policy=name, action="expand", variant=parent, chance=chance)]
    author = Hgm().choose(improvers(run, parent), Draw(run.config.seed, cycle, "author", generation))
    if author != parent:
        chosen.append(
            Selected(cycle=cycle, step=step, policy=AUTHORS, action="expand", variant=author, chance=None)
        )
    run.journal.write(chosen)
    return run.archive[parent], run.archive[author], step


def _by_program(run: RunContext, cycle: int, generation: int, step: int) -> tuple[Variant, Variant, int]:
    """The same where a program's own selection chooses: first whose, by how its way of improving did so far."""
    draw = Draw(run.config.seed, cycle, "author", generation)
    author = run.archive[Hgm().choose(improvers(run, run.champion.id), draw)]
    record = own_selection.chosen(run, tree(run, step), author.id, cycle, generation)
    parent = run.archive[record.variant]
    if _improving(run, author) == _improving(run, parent):
        author = parent
    records = [record]
    if author is not parent:
        records.append(
            Selected(cycle=cycle, step=step, policy=AUTHORS, action="expand", variant=author.id, chance=None)
        )
    run.journal.write(records)
    return parent, author, step


def improvers(run: RunContext, id: str) -> Tree:
    """The archive with one variant open for each way of improving: the parent for its own, for others their first variant.

    No score can show an edit of `improve.py`. What it is worth is how often candidates that were written by it pass the
    screening: that is a node's evaluation here, and whole clades are compared. A node's parent is the one whose way of
    improving it has, or else the one that it was made from.
    """
    ways = {variant.id: _improving(run, variant) for variant in run.archive}
    first: dict[tuple[tuple[str, str], ...], str] = {}
    for variant in run.archive:
        if variant.status != "vetoed" and variant.level != "weights":
            first.setdefault(ways[variant.id], variant.id)
    first[ways[id]] = id
    nodes = []
    for variant in run.archive:
        tried = variant.level == "program" and variant.score is not None
        failed = tried and variant.status == "rejected"
        from_whom = next(
            (parent for parent in variant.parents if ways[parent] == ways[variant.id]),
            variant.parents[0] if variant.parents else None,
        )
        nodes.append(
            Node(
                id=variant.id,
                parent=from_whom,
                wins=float(tried and not failed),
                losses=float(failed),
                open=first.get(ways[variant.id]) == variant.id,
            )
        )
    return Tree(nodes, run.champion.id)


def _improving(run: RunContext, variant: Variant) -> tuple[tuple[str, str], ...]:
    """The files of a program that say how it is improved."""
    return tuple(sorted(files_of(run.store.genome(variant.program)).items()))


def _evaluate(run: RunContext, cycle: int, generation: int, step: int, turn: int, id: str) -> None:
    """One more screening of a variant by itself."""
    count = run.config.evolve.screen
    run.progress(f"evaluating {id} once more", 0.55)
    tasks = run.tasks("train", cycle, f"evaluate/{generation}/{turn}", count)
    [rollouts] = run.roll(
        run.rollouts(run.archive[id], tasks, (run.config.seed, cycle, "evaluate", generation, turn))
    )
    run.bill(cycle, f"evaluate {id}")
    measure(run, id, rollouts.attempts)
    node = run.archive[id]
    run.archive.update(id, score=node.wins / max(1.0, node.wins + node.losses))
    run.journal.write(
        [
            Selected(
                cycle=cycle,
                step=step,
                policy=run.config.selection.policy,
                action="evaluate",
                variant=id,
                chance=None,
                skills=score(rollouts.attempts)[1],
                tokens=rollouts.counts.tokens,
            )
        ]
    )


def measure(run: RunContext, id: str, attempts: list[Attempt]) -> None:
    """Adds attempts on train tasks to what the archive knows of a variant."""
    variant = run.archive[id]
    tried = len(answered(attempts))
    # Skills count alike, however many of the tasks are theirs.
    won = mean(attempts) * tried
    run.archive.update(
        id,
        wins=variant.wins + won,
        losses=variant.losses + tried - won,
        skills={path: share.score for path, share in score(attempts)[1].items()},
    )
