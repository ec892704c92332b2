"""Selection by a file of the genome: a variant's `select_parent.py` chooses whose program is changed next.

How a variant selects is part of how it improves: who writes a generation's candidates is drawn among all ways of improving
first, and that variant's `select_parent.py`, in the sandbox like every program, chooses the parent; the candidates take both
over. One step in five is the fallback's, so that no selection can starve the rest of the archive, and so is each step
whose selection fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.agents.brief import ArchiveReport, Member
from moevolve.agents.genome import Genome
from moevolve.randomness import key, rng
from moevolve.records import Selected
from moevolve.selection.policy import Draw
from moevolve.selection.table import policy
from moevolve.selection.tree import Tree

if TYPE_CHECKING:
    from moevolve.loop.context import RunContext

GENOME = "genome"
"""The policy's name in a run file."""
FALLBACK = "dgm"
SHARE = 0.2
"""Of steps that are the fallback's."""
LONGEST = 300
"""Characters of a fault."""


def report(tree: Tree) -> ArchiveReport:
    """What a program's selection is told of an archive."""
    members = [
        Member(
            id=node.id,
            parent=node.parent,
            children=[child.id for child in tree.children(node.id)],
            score=node.score,
            wins=node.wins,
            losses=node.losses,
            scores=dict(sorted(node.scores.items())),
            step=node.step,
            open=node.open,
        )
        for node in tree
    ]
    return ArchiveReport(members=members, champion=tree.champion, step=tree.step)


def asked(run: RunContext, program: Genome, tree: Tree, source: int) -> tuple[str | None, str]:
    """(the variant that a program selects, why it selects none)."""
    found = run.host.select(program, report(tree), source)
    if found.failure is not None or found.answer is None:
        return None, f"{found.failure}: {found.detail}"[:LONGEST]
    if found.answer not in tree:
        return None, f"unknown: there is no member {found.answer!r}"[:LONGEST]
    if not tree[found.answer].open:
        return None, f"vetoed: {found.answer} may be nobody's parent"
    return found.answer, ""


def chosen(run: RunContext, tree: Tree, selector: str, cycle: int, generation: int) -> Selected:
    """The record of a step of selection by a variant's `select_parent.py`."""
    where = run.config.seed, cycle, "parent", generation
    fault = ""
    if rng(*where, "whose").random() >= SHARE:
        program = run.store.genome(run.archive[selector].program)
        parent, fault = asked(run, program, tree, key(*where))
        if parent is not None:
            return _record(tree, cycle, GENOME, parent, None, selector)
    fallback = policy(FALLBACK)
    parent = fallback.choose(tree, Draw(*where))
    chances = fallback.probabilities(tree)
    chance = None if chances is None else chances[parent]
    return _record(tree, cycle, FALLBACK, parent, chance, selector if fault else "", fault)


def _record(
    tree: Tree, cycle: int, name: str, parent: str, chance: float | None, selector: str, fault: str = ""
) -> Selected:
    return Selected(
        cycle=cycle,
        step=tree.step,
        policy=name,
        action="expand",
        variant=parent,
        chance=chance,
        selector=selector,
        fault=fault,
    )
