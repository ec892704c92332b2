"""Search: proposers edit a parent's program; candidates are screened on train tasks, and the best meets the gate."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.journal.archive import Variant
from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.loop.stages.gate import gate
from moevolve.proposers.proposer import ProposalContext
from moevolve.proposers.search import Proposal, ProposalOutcome, brief_for, children
from moevolve.randomness import key, rng
from moevolve.records import Chosen, Record
from moevolve.rollouts.attempts import Attempt, Counts
from moevolve.rollouts.counting import Usage
from moevolve.rollouts.scoring import mean


def search(run: RunContext, cycle: int, generation: int, latest: Sequence[Attempt]) -> None:
    """One generation of proposals.

    Args:
        run: the run.
        cycle: the cycle under way.
        generation: counted from 0.
        latest: this cycle's attempts, which proposers are shown.
    """
    of = run.config.evolve.generations
    done = 0.55 + 0.4 * generation / of
    run.progress(f"proposing programs, generation {generation + 1}/{of}", done)
    parent = run.selection.choose(run.archive, rng(run.config.seed, cycle, "parent", generation))
    proposals, tokens = _propose(run, cycle, generation, parent, latest)
    run.bill(cycle, f"improve {generation}")
    candidates = [
        (
            run.child(
                parent,
                cycle,
                run.champion.weights,
                run.store.hold(proposal.genome),
                "program",
                proposal.operator,
                proposal.summary,
            ),
            proposal,
        )
        for proposal in proposals
    ]
    run.progress(f"screening {len(candidates)} candidates", done + 0.05 / of)
    passed, records, drawn = _screen(run, cycle, generation, candidates)
    run.bill(cycle, f"screen {generation}")
    # Of equals the first.
    best = max(passed, key=lambda variant: variant.score or 0.0, default=None)
    run.journal.write(
        [
            *records,
            Chosen(
                cycle=cycle,
                chosen=best.id if best else None,
                not_chosen=[variant.id for variant in passed if variant is not best],
                unscreened=[child.id for child, proposal in candidates if not proposal.solves_differently],
                tokens=tokens + drawn,
            ),
        ]
    )
    if best is not None:
        gate(run, cycle, "program", best, done + 0.2 / of)


def _propose(
    run: RunContext, cycle: int, generation: int, parent: Variant, latest: Sequence[Attempt]
) -> tuple[list[Proposal], int]:
    """New programs that the run's proposers make of the parent's, and the tokens they drew."""
    program = run.store.genome(parent.program)
    brief = brief_for(
        cycle,
        run.state.outcomes,
        run.config,
        run.archive,
        parent,
        program,
        latest,
        run.direct,
        run.through,
    )
    policy = run.store.policies([run.champion.weights])[run.champion.weights]
    usage = Usage()
    edits = []
    for index, proposer in enumerate(run.proposers):
        # The first one's key has no index, so that others may join a run without changing what it proposes.
        which = (index,) if index else ()
        context = ProposalContext(
            program,
            key(run.config.seed, cycle, "improve", generation, *which),
            lambda requests: usage.answer(policy, requests),
        )
        edits += proposer.propose(brief, context).candidates
    run.count(Counts(tokens=usage.tokens))
    known = {variant.program for variant in run.archive}
    return children(program, edits, known, run.store.hold), usage.tokens


def _screen(
    run: RunContext, cycle: int, generation: int, candidates: Sequence[tuple[Variant, Proposal]]
) -> tuple[list[Variant], list[Record], int]:
    """Compares candidates with the champion on train tasks.

    Returns those that passed, the records of all, and the tokens drawn.
    """
    tasks = run.tasks("train", cycle, f"screen/{generation}", run.config.evolve.screen)
    stage = (run.config.seed, cycle, "screen", generation)
    differing = [child for child, proposal in candidates if proposal.solves_differently]
    baseline, *found = run.roll(
        *(run.rollouts(variant, tasks, stage) for variant in (run.champion, *differing))
    )
    screened = {child.id: rollouts.attempts for child, rollouts in zip(differing, found, strict=True)}
    base = mean(baseline.attempts)
    passed: list[Variant] = []
    records: list[Record] = []
    for child, proposal in candidates:
        attempts = screened.get(child.id)
        if attempts is None:
            # Nothing to measure yet: an edit of improve.py shows in its children, one of learn.py in training.
            child = run.archive.update(child.id, status="kept")
            if "learn.py" in proposal.files and run.state.recipe_program is None:
                run.state.recipe_program = child.program
            records += [
                entries.variant_added(child, run.behaviours.name(child.program)),
                entries.proposed(child, proposal.files, "program"),
            ]
            continue
        score = mean(attempts)
        better = score > base + run.config.evolve.margin
        child = run.archive.update(child.id, score=score, status="kept" if better else "rejected")
        passed += [child] if better else []
        records += [
            entries.variant_added(child, run.behaviours.name(child.program)),
            entries.proposed(child, proposal.files, "program"),
            entries.screened(child, attempts, base, passed=better),
        ]
        run.state.outcomes.append(
            ProposalOutcome(cycle, child.operator, child.summary, score - base, "screened")
        )
    return passed, records, sum(rollouts.counts.tokens for rollouts in (baseline, *found))
