"""Proposals: the bandit asks proposers, and what they offer is checked before any of it is evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.agents.brief import Brief
from moevolve.agents.genome import Genome
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.journal.archive import Variant
from moevolve.loop import own_selection
from moevolve.loop.context import RunContext
from moevolve.loop.improvers import files_of
from moevolve.loop.selecting import tree
from moevolve.proposers.bandit import slots
from moevolve.proposers.checks import Check, checker
from moevolve.proposers.names import LONGEST
from moevolve.proposers.proposer import ProposalContext
from moevolve.proposers.search import Proposal, ProposalOutcome, brief_for, children, meaning, unscored
from moevolve.protocol.requests import RecallRequest
from moevolve.randomness import key, rng
from moevolve.records import Lesson, ProposerAsked, Record
from moevolve.rollouts.attempts import Attempt, Counts
from moevolve.rollouts.counting import Usage

BROKEN = "broken"
"""What became of a candidate that does not work."""
CROSSING = ("operators", "model")
CROSSED = ("crossover", "cross")
"""Proposers that see another program than the parent's, and those of their operators that take from it."""
IMPORTED = "imported"
"""Operator, and proposer on record, of programs that a person puts forward."""
REASONS = 16
"""Reasons that are put on record of one proposer's broken candidates."""


class Proposed(msgspec.Struct, frozen=True):
    """What a generation brought."""

    proposals: list[Proposal]
    tokens: int


def propose(
    run: RunContext,
    cycle: int,
    generation: int,
    step: int,
    parent: Variant,
    author: Variant,
    latest: Sequence[Attempt],
) -> Proposed:
    """New programs that the run's proposers make of the parent's, with the author's way of improving in its place.

    A candidate that does not work is a verdict on itself: it costs what it took, joins no archive, and its parent's score
    stays as it is.
    """
    program, taken = with_improver(run.store.genome(parent.program), run.store.genome(author.program))
    brief = _brief(run, cycle, generation, parent, program, latest)
    names = run.config.evolve.proposers
    seed = run.config.seed
    wanted = slots(
        names, run.accounts().proposers, run.config.evolve.candidates, rng(seed, cycle, "bandit", generation)
    )
    policy = run.policies([run.champion.weights])[run.champion.weights]
    writer = policy if run.writers.model is None else run.budget.policy(run.writers.model)
    known = {name for each in run.archive for name in (each.program, run.store.meaning(each.program))}
    selects = _selects(run, step, key(seed, cycle, "select", generation))
    behaviours = _behaviours(run)
    found, records = _imported(run, cycle, step, program, brief, selects)
    known |= {name for each in found for name in (each.genome.hash, meaning(each.genome))}
    tokens = 0
    for index, (name, proposer) in enumerate(zip(names, run.proposers, strict=True)):
        if not wanted[name]:
            continue
        # The first one's key has no index, so that others may join a run without changing what it proposes.
        which = (index,) if index else ()
        source = key(seed, cycle, "improve", generation, *which)
        usage = Usage()
        answers = writer if name == "model" else policy
        check = checker(
            run.host, lambda genome: _behaviour(run, genome), program, brief, key(source, "smoke"), selects
        )
        other = _other(run, parent, rng(source, "other"))
        context = ProposalContext(
            program,
            source,
            lambda requests, answers=answers, usage=usage: usage.answer(answers, requests),  # type: ignore[misc]
            check,
            None if other is None else run.store.genome(other.program),
            "" if other is None or other.score is None else f"whose score was {other.score:.3f}",
        )
        made = proposer.propose(msgspec.structs.replace(brief, candidates=wanted[name]), context)
        offered = children(program, made.candidates, known, run.store.hold, run.skills)
        kept, broken, repeats = [], list(made.broken), len(made.candidates) - len(offered)
        for proposal in offered:
            fault = check(proposal.genome)
            if fault is not None:
                broken.append(f"{proposal.operator}: {fault}")
                continue
            acts = _acts(run, proposal) if proposal.solves_differently else None
            if acts is not None and acts in behaviours:
                repeats += 1
                continue
            behaviours |= set() if acts is None else {acts}
            known |= {proposal.genome.hash, meaning(proposal.genome)}
            crossed = other is not None and name in CROSSING and proposal.operator in CROSSED
            if taken:
                proposal = _credited(proposal, author, taken)
            source_of = other.id if other is not None and crossed else ""
            kept.append(msgspec.structs.replace(proposal, proposer=name, other=source_of))
        found += kept
        tokens += usage.tokens
        run.state.outcomes += [
            ProposalOutcome(cycle, *_blamed(reason), gain=0.0, decision=BROKEN) for reason in broken[:REASONS]
        ]
        records.append(
            ProposerAsked(
                cycle=cycle,
                step=step,
                proposer=name,
                asked=wanted[name],
                made=len(kept),
                repeats=repeats,
                broken=broken[:REASONS],
                failure=made.failure,
                detail=made.detail,
                requests=usage.requests,
                tokens=usage.tokens,
            )
        )
    run.journal.write(records)
    run.bill(cycle, f"improve {generation}")
    if bill := run.writers.bill(cycle, str(generation)):
        run.journal.write(bill)
    run.count(Counts(tokens=tokens))
    return Proposed(found, tokens)


def _imported(
    run: RunContext, cycle: int, step: int, program: Genome, brief: Brief, selects: Check | None
) -> tuple[list[Proposal], list[Record]]:
    """Programs that a person put forward since the last generation, checked like any other, and the record of them."""
    waiting, run.state.imported = run.state.imported, []
    if not waiting:
        return [], []
    source = key(run.config.seed, cycle, "imported")
    check = checker(
        run.host, lambda genome: _behaviour(run, genome), program, brief, key(source, "smoke"), selects
    )
    found: list[Proposal] = []
    broken: list[str] = []
    for name in waiting:
        genome = run.store.genome(name)
        if (fault := check(genome)) is not None:
            broken.append(f"{IMPORTED}: {fault}")
            continue
        paths = genome.files.keys() | program.files.keys()
        changed = sorted(path for path in paths if genome.files.get(path) != program.files.get(path))
        found.append(
            Proposal(
                genome,
                IMPORTED,
                "a program from elsewhere",
                changed,
                solves_differently=not all(map(unscored, changed)),
                proposer=IMPORTED,
            )
        )
    record = ProposerAsked(
        cycle=cycle,
        step=step,
        proposer=IMPORTED,
        asked=len(waiting),
        made=len(found),
        repeats=0,
        broken=broken[:REASONS],
        failure=None,
        detail="",
        requests=0,
        tokens=0,
    )
    return found, [record]


def _selects(run: RunContext, step: int, source: int) -> Check | None:
    """Why a program would select nobody in the archive as it is, where the run asks programs."""
    if run.config.selection.policy != own_selection.GENOME:
        return None
    now = tree(run, step)
    return lambda genome: own_selection.asked(run, genome, now, source)[1] or None


def with_improver(parent: Genome, author: Genome) -> tuple[Genome, list[str]]:
    """The parent's program with the author's way of improving, and the files that this changes."""
    old, new = files_of(parent), files_of(author)
    if old == new:
        return parent, []
    files = {path: text for path, text in parent.files.items() if path not in old} | new
    changed = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    return Genome(files=dict(sorted(files.items()))), changed


def _credited(proposal: Proposal, author: Variant, taken: Sequence[str]) -> Proposal:
    """A proposal that says whose way of improving it has."""
    # Of an author that took over another one's way first, its own edit alone is named.
    own, what = author.operator.partition("+")[0], author.summary.partition("; improves as ")[0]
    return msgspec.structs.replace(
        proposal,
        operator=f"{proposal.operator}+{own}"[:LONGEST],
        summary=f"{proposal.summary}; improves as {author.id} does: {what}",
        files=sorted({*proposal.files, *taken}),
    )


def _brief(
    run: RunContext, cycle: int, generation: int, parent: Variant, program: Genome, latest: Sequence[Attempt]
) -> Brief:
    """What proposers are told, with what is left of the run."""
    config, budget = run.config, run.budget
    limits = config.guard
    brief = brief_for(
        cycle,
        run.state.outcomes,
        config,
        run.archive,
        parent,
        program,
        latest,
        run.direct,
        run.through,
    )
    lessons = [
        _told(lesson)
        for failure in brief.failures[:4]
        for lesson in run.lessons.recall(
            RecallRequest(skill=failure.skill, query=failure.prompt, k=2, kinds=("fact", "failure"))
        )
    ]
    return msgspec.structs.replace(
        brief,
        answers=run.suite.answers,
        learns=run.arm.learns,
        lessons=lessons,
        cycles_left=None if config.cycles is None else max(0, config.cycles - cycle),
        generations_left=config.evolve.generations - generation - 1,
        tokens_left=None if limits.most_tokens is None else max(0, limits.most_tokens - budget.tokens),
        requests_left=None
        if limits.most_requests is None
        else max(0, limits.most_requests - budget.requests),
    )


def _told(lesson: Lesson) -> str:
    if not lesson.prompt:
        return lesson.text
    return f"{lesson.prompt} -> {lesson.answer} ({'right' if lesson.success else 'wrong'})"


def _behaviour(run: RunContext, genome: Genome) -> Behaviour:
    return run.behaviours.of(run.store.hold(genome))


def _acts(run: RunContext, proposal: Proposal) -> str | None:
    """The name of what a program does; None where it computes, so that only trying shows it."""
    name = run.store.hold(proposal.genome)
    return None if run.behaviours.of(name).computes else run.behaviours.name(name)


def _behaviours(run: RunContext) -> set[str]:
    """What the programs do that were screened with the champion's weights: the same again would tell nothing new."""
    return {
        run.behaviours.name(variant.program)
        for variant in run.archive
        if variant.weights == run.champion.weights and (variant.score is not None or variant.level == "seed")
    } | {run.behaviours.name(run.champion.program)}


def _other(run: RunContext, parent: Variant, draw) -> Variant | None:  # type: ignore[no-untyped-def]
    """Another program to take from: of those that are best at some skill, one that is not the parent."""
    best: dict[str, tuple[float, Variant]] = {}
    for variant in run.archive:
        for skill, score in variant.skills.items():
            if variant.program != parent.program and (skill not in best or score > best[skill][0]):
                best[skill] = score, variant
    others = [variant for _, variant in best.values()]
    return draw.choice(others) if others else None


def _blamed(reason: str) -> tuple[str, str]:
    """(operator, summary) of a broken candidate."""
    operator, _, fault = reason.partition(": ")
    return operator, fault
