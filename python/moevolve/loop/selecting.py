"""The step of a run's selection policy: the archive as a tree, and the parent that the policy chooses in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.config import Config
from moevolve.journal.archive import Variant
from moevolve.records import Selected
from moevolve.rollouts.attempts import Attempt, answered
from moevolve.rollouts.scoring import score
from moevolve.selection.clade import Hgm
from moevolve.selection.policy import Draw, Evaluate, Selection
from moevolve.selection.table import policy
from moevolve.selection.tree import Node, Tree

if TYPE_CHECKING:
    from moevolve.loop.context import RunContext

MOST_EVALUATIONS = 8
"""Variants that a policy may look at once more before it names a parent."""


def policy_of(config: Config) -> Selection:
    """The policy that a run's configuration names."""
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


def select(run: RunContext, cycle: int, generation: int) -> tuple[Variant, int]:
    """The parent of a generation, and the number of the step; evaluates others first where the policy wants that."""
    step = (cycle - 1) * run.config.evolve.generations + generation
    name = run.config.selection.policy
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
    run.journal.write(
        [
            Selected(
                cycle=cycle,
                step=step,
                policy=name,
                action="expand",
                variant=parent,
                chance=None if chances is None else chances[parent],
            )
        ]
    )
    return run.archive[parent], step


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
    done = answered(attempts)
    won = sum(attempt.verdict.score for attempt in done)
    run.archive.update(
        id,
        wins=variant.wins + won,
        losses=variant.losses + len(done) - won,
        skills={path: share.score for path, share in score(attempts)[1].items()},
    )
