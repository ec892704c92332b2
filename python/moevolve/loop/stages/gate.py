"""The gate: a candidate beside the champion on fresh paired tasks, and what follows from the decision."""

from __future__ import annotations

from moevolve.gate.betting import GateVerdict, PairedGate
from moevolve.gate.driver import RolloutPairs, Sides, decide
from moevolve.journal.archive import Variant
from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.loop.stages.practise import FADE
from moevolve.proposers.search import ProposalOutcome
from moevolve.randomness import rng
from moevolve.records import Level

STATUS = {"promote": "champion", "archive": "kept", "discard": "rejected"}
"""What a candidate becomes by the gate's decision."""


def gate(run: RunContext, cycle: int, level: Level, candidate: Variant, done: float) -> GateVerdict:
    """Compares a candidate with the champion and carries the decision out.

    Args:
        run: the run.
        cycle: the cycle under way.
        level: what is new about the candidate.
        candidate: a member of the archive.
        done: share of the cycle that is behind.
    """
    config, champion = run.config.gate, run.champion

    def watch(verdict: GateVerdict) -> None:
        share = done + 0.1 * min(1.0, verdict.n / config.max_n)
        run.progress(f"gate, {level}: {candidate.id} against {champion.id}, {verdict.n} tasks", share)

    test = PairedGate(
        alpha=config.alpha,
        margin=config.margin,
        min_n=config.min_n,
        max_n=config.max_n,
        skills=run.skills,
    )
    pairs = RolloutPairs(
        run.runner, lambda batch: _sides(run, cycle, candidate, batch), run.skills, config.max_n
    )
    verdict = decide(test, pairs, watch)
    assert verdict.decision is not None, "the gate has decided"
    run.count(pairs.counts)
    run.bill(cycle, f"gate {candidate.id}")
    tokens = pairs.counts.tokens
    run.journal.write([entries.gated(candidate, champion.id, level, verdict, config.alpha, cycle, tokens)])
    run.archive.update(candidate.id, status=STATUS[verdict.decision])
    if verdict.decision == "promote":
        run.archive.update(champion.id, status="kept")
        run.state.champion = candidate.id
        run.store.genome(candidate.program).write(run.journal.store.path / "program")
        if level == "program":
            # What was counted for the old program says little about the new one.
            run.through.fade(FADE)
    run.state.outcomes.append(
        ProposalOutcome(cycle, candidate.operator, candidate.summary, verdict.gain, verdict.decision)
    )
    return verdict


def _sides(run: RunContext, cycle: int, candidate: Variant, batch: int) -> Sides:
    """Both variants on the tasks of one batch: whole rounds of skills, so that the gate has seen each equally often."""
    stage = (run.config.seed, cycle, "gate", candidate.id, batch)
    draw = rng(*stage)
    low, high = run.config.suite.levels
    rounds = -(-run.config.gate.batch // len(run.skills))
    cells = [(path, draw.randint(low, high)) for _ in range(rounds) for path in run.skills]
    tasks = run.suite.sample("gate", cells, *stage)
    return run.rollouts(candidate, tasks, stage), run.rollouts(run.champion, tasks, stage)
