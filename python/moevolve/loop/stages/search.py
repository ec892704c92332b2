"""Search: proposers edit a parent's program; candidates are screened on train tasks, and the best meets the gate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from moevolve.gate.screening import corrected_best, standard_error
from moevolve.journal.archive import Variant
from moevolve.loop import entries, samples
from moevolve.loop.context import RunContext
from moevolve.loop.selecting import measure, select
from moevolve.loop.stages.gate import gate
from moevolve.loop.stages.proposing import propose
from moevolve.loop.stages.remember import compare
from moevolve.loop.stages.screening import screened
from moevolve.proposers.search import Proposal, ProposalOutcome
from moevolve.randomness import rng
from moevolve.records import Chosen, Record, SkillScore
from moevolve.rollouts.attempts import Attempt, Counts, Rollouts
from moevolve.rollouts.scoring import compared, mean
from moevolve.rollouts.scoring import score as scored
from moevolve.tasks.task import Verdict

UNSTEADY = "nondeterministic"
"""Failure of a program's attempts when two tries of the same keys went two ways."""


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
    parent, author, step = select(run, cycle, generation)
    made = propose(run, cycle, generation, step, parent, author, latest)
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
                step,
                author,
                proposal.other,
            ),
            proposal,
        )
        for proposal in made.proposals
    ]
    run.progress(f"screening {len(candidates)} candidates", done + 0.05 / of)
    screening = _screen(run, cycle, generation, candidates)
    run.bill(cycle, f"screen {generation}")
    # Of equals the first.
    best = max(screening.passed, key=lambda variant: variant.score or 0.0, default=None)
    gain = None
    if best is not None:
        gains = [math.fsum(each) / len(each) for each in screening.differences.values() if each]
        error = standard_error(screening.differences[best.id])
        draw = rng(run.config.seed, cycle, "screen", generation, "chosen")
        gain = corrected_best(gains, error, draw) if gains else 0.0
        best = run.archive.update(best.id, score=min(1.0, max(0.0, screening.baseline + gain)))
    run.journal.write(
        [
            *screening.records,
            Chosen(
                cycle=cycle,
                chosen=best.id if best else None,
                not_chosen=[each.id for each in screening.passed if best is None or each.id != best.id],
                unscreened=[child.id for child, proposal in candidates if not proposal.solves_differently],
                tokens=made.tokens + screening.tokens,
                gain=gain,
                baseline=screening.skills,
            ),
        ]
    )
    if best is not None:
        verdict = gate(run, cycle, "program", best, done + 0.2 / of)
        if run.config.generalise.per_cell and verdict.decision in ("promote", "hold"):
            run.state.screened[best.program] = screening.tasks


class _Screening(msgspec.Struct, frozen=True):
    """A comparison of candidates with the champion on train tasks."""

    passed: list[Variant]
    records: list[Record]
    baseline: float
    """The champion's score."""
    differences: dict[str, list[float]]
    """By candidate, in order: paired differences to the champion; see `compared`."""
    tokens: int
    skills: dict[str, SkillScore]
    """The champion's score by skill."""
    tasks: list[tuple[str, int, int]]
    """(skill, level, seed), each once and in order."""


def _screen(
    run: RunContext, cycle: int, generation: int, candidates: Sequence[tuple[Variant, Proposal]]
) -> _Screening:
    """Compares candidates with the champion on train tasks."""
    differing = [child for child, proposal in candidates if proposal.solves_differently]
    found = screened(run, cycle, generation, differing)
    run.journal.keep(
        [
            samples.of_stage(cycle, "screen", child.id, Rollouts(found.attempts[child.id], Counts()))
            for child in differing
        ]
    )
    differences: dict[str, list[float]] = {}
    passed: list[Variant] = []
    records: list[Record] = []
    for child, proposal in candidates:
        attempts = found.attempts.get(child.id)
        if attempts is None:
            # Nothing to measure yet: an edit of improve.py shows in its children, one of learn.py in training.
            child = run.archive.update(child.id, status="kept")
            if "learn.py" in proposal.files and run.state.recipe_program is None:
                run.state.recipe_program = child.program
            records += [
                run.joined(child),
                entries.proposed(child, proposal.files, "program", proposal.proposer),
            ]
            continue
        unsteady = any(attempt.verdict.failure == UNSTEADY for attempt in attempts)
        if unsteady:
            # Whatever it came to elsewhere says nothing: it is discarded as a whole.
            attempts = [_unsteady(attempt) for attempt in attempts]
        beside = compared(attempts, found.baseline)
        measure(run, child.id, attempts)
        score, base, differences[child.id] = beside.score, beside.baseline, beside.differences
        better = score > base + run.config.evolve.margin and not (unsteady or beside.void)
        child = run.archive.update(child.id, score=score, status="kept" if better else "rejected")
        passed += [child] if better else []
        records += [
            run.joined(child),
            entries.proposed(child, proposal.files, "program", proposal.proposer),
            entries.screened(child, attempts, base, passed=better, void=beside.void),
        ]
        run.state.outcomes.append(
            ProposalOutcome(
                cycle,
                child.operator,
                child.summary,
                score - base,
                UNSTEADY if unsteady else "screened",
            )
        )
    if differing:
        measure(run, run.champion.id, found.baseline)
        records += compare(run, cycle, generation, found.rolled)
    by_skill = scored(found.baseline)[1]
    tasks = sorted({(each.task.skill, each.task.level, each.task.seed) for each in found.baseline})
    return _Screening(passed, records, mean(found.baseline), differences, found.tokens, by_skill, tasks)


def _unsteady(attempt: Attempt) -> Attempt:
    """The attempt of a program that is discarded as nondeterministic."""
    return msgspec.structs.replace(attempt, verdict=Verdict(score=0.0, success=False, failure=UNSTEADY))
