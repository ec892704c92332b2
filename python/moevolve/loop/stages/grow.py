"""Growth: changes of the skill tree are proposed, tried on train tasks and then added; what was grown gets its own attempts.

Attempts at what was grown are a bounded share of a cycle's, and no score before or after counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.config.schema import Shared
from moevolve.errors import UsageError
from moevolve.loop.context import RunContext
from moevolve.loop.sealed import open_grown
from moevolve.loop.stages.attempts import Source, record_attempts
from moevolve.randomness import rng
from moevolve.records import Grown, GrowthScored, Recipe, SkillInfo
from moevolve.rollouts.attempts import Attempt, answered, tally
from moevolve.rollouts.runner import RolloutRequest
from moevolve.rollouts.scoring import score
from moevolve.skills.curriculum import allocate, by_amplification, by_practice
from moevolve.skills.features import Seen
from moevolve.skills.growth import FIRST, Proposal, Tree, judge, propose
from moevolve.skills.mastery import FADE
from moevolve.tasks.grown import composed, composed_path, grown, info, parts, payload_of
from moevolve.tasks.suite import Cell, Suite
from moevolve.tasks.task import Task


def shared_tasks(run: RunContext, recipe: Recipe | None) -> tuple[Shared, Shared]:
    """Train tasks of a cycle for the suite's skills and for what was grown; see `AttemptsSection.shared`."""
    growth = run.config.growth.share if run.growing.cells else 0.0
    return run.config.attempts.shared(recipe.program_share if recipe else None, growth)


def practise_grown(run: RunContext, cycle: int, recipe: Recipe | None) -> int:
    """Attempts at what was grown, bare and through the program; returns how many confirmed answers were new."""
    growing, config, seed = run.growing, run.config, run.config.seed
    growing.latest = []
    _, (bare, through) = shared_tasks(run, recipe)
    if not bare + through:
        return 0
    ready, confirmed = growing.ready(), 0
    requests: list[RolloutRequest] = []
    if bare:
        weights = by_practice(growing.direct, growing.through, ready)
        tasks = _drawn(run, growing.suite, weights, bare, cycle, "grown direct")
        samples, temperature = config.attempts.samples, config.policy.temperature
        requests.append(
            run.bare(
                run.champion,
                tasks,
                (seed, cycle, "grown direct"),
                samples=samples,
                temperature=temperature,
            )
        )
    if through:
        weights = by_amplification(growing.direct, growing.through, ready)
        tasks = _drawn(run, growing.suite, weights, through, cycle, "grown program")
        requests.append(run.rollouts(run.champion, tasks, (seed, cycle, "grown program"), parts=True))
    for request, rollouts in zip(requests, growing.roll(*requests), strict=True):
        source: Source = "direct" if request.program is None else "program"
        attempts = answered(rollouts.attempts)
        record_attempts(run, cycle, f"grown {source}", source, rollouts)
        mastery = growing.direct if source == "direct" else growing.through
        mastery.fade(FADE)
        for each in tally(attempts):
            mastery.observe(each.skill, each.level, each.successes, each.attempts)
        if source == "program":
            growing.latest = attempts
        if rollouts.exchanges is None:
            if rollouts.parts and run.arm.learns and run.arm.filters:
                run.buffer.add_parts(rollouts.attempts, rollouts.parts, cycle, growing.suite)
            confirmed += run.buffer.add(attempts, cycle, confirmed_only=run.arm.filters)
        elif run.arm.learns:
            confirmed += run.buffer.add_exchanges(
                rollouts.attempts, rollouts.exchanges, cycle, growing.suite, confirmed_only=run.arm.filters
            )
    return confirmed


def grow(run: RunContext, cycle: int, latest: Sequence[Attempt]) -> None:
    """Tries changes of the tree and adds those that the trial speaks for; each is a record.

    Args:
        run: the run.
        cycle: the cycle under way.
        latest: its attempts at the suite's tasks.
    """
    if not run.config.growth.on:
        return
    growing, section = run.growing, run.config.growth
    run.progress("trying changes of the skill tree", 0.92)
    tree = Tree(
        growing.mastery(),
        growing.changes,
        growing.declined,
        growing.taken_back,
        growing.tops(),
        growing.fits,
        seen([*latest, *growing.latest]),
    )
    draw = rng(run.config.seed, cycle, "growth", "proposals")
    for proposal in propose(tree, cycle, section, draw):
        _try(run, cycle, proposal)


def _try(run: RunContext, cycle: int, proposal: Proposal) -> None:
    """Tries one change on fresh train tasks and puts what came of it on record."""
    growing, seed = run.growing, run.config.seed
    name = f"g{run.state.next_growth:03d}"
    drafted = _draft(run, cycle, name, proposal)
    if drafted is None:
        return
    draft, suite, cells = drafted
    stage = (seed, cycle, "growth", name)
    turns = rng(*stage, "cells")
    count = run.config.growth.trial * (2 if draft.change == "split" else 1)
    chosen = allocate(dict.fromkeys(cells, 1.0), count, 0.0, turns)
    try:
        tasks = suite.sample("train", chosen, *stage)
    except UsageError:
        # A level of which the train split has no prompt cannot be practised.
        return
    if not all(suite.has(split, *cell) for split in ("gate", "sealed") for cell in cells):
        # Nor can one be held beside the gate, or scored in the end, of which those splits have none.
        return
    run.state.next_growth += 1
    [rollouts] = growing.roll(run.rollouts(run.champion, tasks, stage), suite=suite)
    run.bill(cycle, f"growth {name}")
    tallies = tally(answered(rollouts.attempts))
    added, reason = judge(draft.change, tallies)
    record = msgspec.structs.replace(
        draft,
        decision="added" if added else "declined",
        reason=reason,
        trial=tallies,
        tokens=rollouts.counts.tokens,
    )
    run.journal.write([record])
    if not added:
        growing.declined.append(record)
        return
    growing.set([*growing.changes, record])
    for each in tallies:
        low, high = growing.through.levels.get(each.skill, (1, 0))
        if low <= each.level <= high:
            growing.through.observe(each.skill, each.level, each.successes, each.attempts)


def _draft(
    run: RunContext, cycle: int, name: str, proposal: Proposal
) -> tuple[Grown, Suite, list[Cell]] | None:
    """The record of a change before its trial, the tree with it, and what is tried; None where it cannot be made."""
    growing = run.growing
    suite, path = growing.suite, proposal.skill
    leaf, parents, skill = suite[path], [path], path
    leaves: list[SkillInfo]
    match proposal.change:
        case "levels":
            low, high = leaf.levels
            top = growing.tops()[path]
            most = high + run.config.growth.step
            levels = high + 1, most if top is None else min(top, most)
            leaves = [SkillInfo(path=path, summary=leaf.summary, levels=(low, levels[1]))]
            cells = [(path, level) for level in range(levels[0], levels[1] + 1)]
        case "compose":
            parents.append(proposal.second)
            low, high = leaf.levels
            made = composed(leaf, suite[proposal.second], (low, min(high, low + FIRST - 1)))
            skill, leaves = composed_path(*parents), [info(made)]
            cells = _cells(leaves)
        case "split":
            assert proposal.feature is not None, "a split has a feature"
            leaves = [info(side) for side in parts(leaf, proposal.feature)]
            cells = _cells(leaves)
        case "retire":
            parents += [proposal.second] if proposal.second else []
            leaves = [info(suite[each]) for each in parents]
            cells = _cells(leaves)
    if not leaves or any(each.path in suite.skills for each in leaves if proposal.change == "split"):
        return None
    draft = Grown(
        cycle=cycle,
        growth=name,
        change=proposal.change,
        skill=skill,
        parents=parents,
        leaves=leaves,
        feature="" if proposal.feature is None else str(proposal.feature),
        variant=run.champion.id,
        decision="added",
        reason="",
        trial=[],
        tokens=0,
    )
    tried = suite if proposal.change == "retire" else grown(run.suite, [*growing.changes, draft])
    return draft, tried, cells


def _cells(leaves: Sequence[SkillInfo]) -> list[Cell]:
    return [(leaf.path, level) for leaf in leaves for level in range(leaf.levels[0], leaf.levels[1] + 1)]


def _drawn(
    run: RunContext, suite: Suite, weights: dict[Cell, float], count: int, cycle: int, stage: str
) -> list[Task]:
    seed = run.config.seed
    cells = allocate(weights, count, 0.0, rng(seed, cycle, stage, "cells"))
    return suite.sample("train", cells, seed, cycle, stage)


def score_grown(run: RunContext) -> GrowthScored:
    """The growth column: the champion on sealed tasks of what was grown."""
    growing, cycle = run.growing, run.state.cycle
    run.progress("scoring what the tree grew", 1.0)
    tasks = open_grown(run, cycle)
    request = run.rollouts(run.champion, tasks, (run.config.seed, cycle, "grown sealed"))
    [rollouts] = growing.roll(request, sealed=True)
    run.bill(cycle, "grown sealed")
    return GrowthScored(
        cycle=cycle,
        variant=run.champion.id,
        skills=score(rollouts.attempts)[1],
        tallies=tally(answered(rollouts.attempts)),
        missing=len(rollouts.attempts) - len(answered(rollouts.attempts)),
        behaviour=growing.plans(run.champion.program) if run.suite.answers == "policy" else None,
        tokens=rollouts.counts.tokens,
    )


def seen(attempts: Sequence[Attempt]) -> dict[str, list[Seen]]:
    """Attempts by leaf as a split looks at them."""
    found: dict[str, list[Seen]] = {}
    for attempt in attempts:
        task = attempt.task
        each = Seen(payload_of(task.prompt), task.level, attempt.verdict.success)
        found.setdefault(task.skill, []).append(each)
    return found
