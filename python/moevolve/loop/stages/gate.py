"""The gate: a candidate beside the champion on fresh paired tasks, and what follows from the decision."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from moevolve.gate import confirmed
from moevolve.gate.betting import GateVerdict, PairedGate
from moevolve.gate.driver import Match, RolloutPairs, decide
from moevolve.gate.finite import SpentTasks, detectable
from moevolve.guard.guard import Promotion
from moevolve.journal.archive import Variant
from moevolve.loop import entries, samples
from moevolve.loop.context import RunContext
from moevolve.loop.snapshot import Waiting
from moevolve.loop.stages.knockout import knock_out
from moevolve.loop.stages.unharmed import unharmed
from moevolve.proposers.search import ProposalOutcome
from moevolve.randomness import rng
from moevolve.records import PASSED, Decision, GateProgress, Guarded, Level
from moevolve.skills.mastery import FADE
from moevolve.tasks.task import Task

STATUS: dict[Decision, str] = {
    "promote": "champion",
    "hold": "waiting",
    "veto": "vetoed",
    "archive": "kept",
    "discard": "rejected",
    "void": "kept",
}
"""What a candidate becomes by the gate's decision."""
DRY = 3
"""Batches in a row in which a skill has no fresh task, after which none is expected."""


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
        run.journal.gate = GateProgress(
            candidate=candidate.id,
            champion=champion.id,
            level=level,
            n=verdict.n,
            most=config.max_n,
            wins=verdict.wins,
            losses=verdict.losses,
            gain=verdict.gain,
            evidence=verdict.evidence,
            alpha=run.state.spending.level,
            harmed=list(verdict.harmed),
        )
        run.progress(f"gate, {level}: {candidate.id} against {champion.id}, {verdict.n} tasks", share)

    holders = confirmed.elsewhere(run.state.best_levels, champion.id)
    few = min((len(run.skills) * tasks for tasks in run.few_tasks.values()), default=config.min_n)
    test = PairedGate(
        alpha=run.state.spending.level,
        margin=config.margin,
        min_n=min(config.min_n, few),
        max_n=config.max_n,
        skills=run.skills,
        skill_alpha=config.skill_alpha,
        confirm_n=config.confirm_n,
        batch=config.batch,
        best=list(holders),
    )
    draws = _Draws(run, cycle, test, candidate, holders)
    pairs = RolloutPairs(run.runner, draws.matches)
    try:
        verdict = decide(test, pairs, watch)
    finally:
        run.journal.gate = None
    run.journal.keep([samples.of_gate(cycle, candidate.id, pairs.flipped)])
    assert verdict.decision is not None, "the gate has decided"
    run.count(pairs.counts)
    run.bill(cycle, f"gate {candidate.id}")
    verdict, refusing = _watched(run, cycle, level, candidate, verdict)
    before, tokens = run.state.spending, pairs.counts.tokens
    run.journal.write(
        [
            entries.gated(
                candidate,
                champion.id,
                level,
                verdict,
                before.level,
                cycle,
                tokens,
                before,
                test.pairs,
                refusing,
            )
        ]
    )
    run.state.spending = before.after(promoted=verdict.decision in PASSED)
    run.state.spent_tasks = draws.spent.table()
    run.archive.update(candidate.id, status=STATUS[verdict.decision or "void"])
    if verdict.decision in ("promote", "hold"):
        levels = confirmed.promoted(run.state.best_levels, test, candidate.id, champion.id)
        passed = Waiting(variant=candidate.id, level=level, champion=champion.id, best_levels=levels)
        if verdict.decision == "hold":
            run.state.waiting.append(passed)
        else:
            crown(run, passed)
    run.state.outcomes.append(
        ProposalOutcome(
            cycle, candidate.operator, candidate.summary, verdict.gain, verdict.decision or "void"
        )
    )
    return verdict


def _watched(
    run: RunContext, cycle: int, level: Level, candidate: Variant, verdict: GateVerdict
) -> tuple[GateVerdict, list[str]]:
    """A verdict as the run's guards see it, with the names of those that refuse, and held where a person is to be asked."""
    if verdict.decision != "promote":
        return verdict, []
    checks = run.guards.promotion(Promotion(cycle=cycle, candidate=candidate, champion=run.champion))
    if (grown := unharmed(run, cycle, candidate)) is not None:
        checks.append(grown)
    run.journal.write(checks)
    run.bill(cycle, f"guards {candidate.id}")
    if level == "program" and (knocked := knock_out(run, cycle, candidate)) is not None:
        run.journal.write([knocked])
    if refusing := [check.guard for check in checks if check.vetoed]:
        reason = f"{verdict.reason}; vetoed by {', '.join(refusing)}"
        return msgspec.structs.replace(verdict, decision="veto", reason=reason), refusing
    # Whoever passes beside one that waits waits as well: an approval would undo what came between.
    if run.state.waiting or run.config.guard.approve in {"all", level, *_brought(candidate, run.champion)}:
        reason = f"{verdict.reason}; waits for a person"
        return msgspec.structs.replace(verdict, decision="hold", reason=reason), []
    return verdict, []


def _brought(candidate: Variant, champion: Variant) -> set[Level]:
    """What a candidate would put in the champion's place: new weights may bring the program of a new recipe with them."""
    found: set[Level] = {"program"} if candidate.program != champion.program else set()
    return found | ({"weights"} if candidate.weights != champion.weights else set())


def crown(run: RunContext, passed: Waiting) -> None:
    """Makes a candidate that has passed the champion."""
    run.state.best_levels = passed.best_levels
    run.archive.update(run.champion.id, status="kept")
    run.archive.update(passed.variant, status="champion")
    run.state.champion = passed.variant
    if passed.level == run.state.turn:
        run.state.idle = 0
    if passed.level == "weights":
        run.state.unablated = passed.variant, run.champion.program
    run.store.genome(run.champion.program).write(run.journal.store.path / "program")
    if passed.level == "program":
        # What was counted for the old program says little about the new one.
        run.through.fade(FADE)
        run.growing.through.fade(FADE)


def finite_data(run: RunContext) -> Guarded:
    """What the gate's tasks can show where a skill has only so many: known before the first of them is spent."""
    n = len(run.skills) * min(run.few_tasks.values())
    least = detectable(n, run.state.spending.level)
    can = "show no gain at all" if least is None else f"cannot show less than {least:+.2f}"
    detail = (
        f"{n} gate tasks in whole rounds of skills {can}; each counts once, and a decision spends its tasks"
    )
    return Guarded(cycle=0, guard="finite data", checked=n, vetoed=0, detail=detail)


class _Draws:
    """The tasks of a decision, batch by batch as the gate asks for them.

    Args:
        run: the run.
        cycle: the cycle under way.
        test: the gate.
        candidate: a member of the archive.
        holders: skill -> the variant that holds its best level, where that is not the champion.
    """

    def __init__(
        self, run: RunContext, cycle: int, test: PairedGate, candidate: Variant, holders: Mapping[str, str]
    ) -> None:
        self.spent = SpentTasks(run.few_tasks, run.state.spent_tasks)
        self._run = run
        self._cycle = cycle
        self._test = test
        self._candidate = candidate
        self._holders = holders
        self._dry = 0

    def matches(self, batch: int) -> list[Match] | None:
        """One match with the champion, and one with every variant that holds a best level asked for."""
        run = self._run
        stage = (run.config.seed, self._cycle, "gate", self._candidate.id, batch)
        draw = rng(*stage)
        wants = self._test.wants()
        cells = [
            (want.skill, draw.randint(*run.suite[want.skill].levels), want.best)
            for turn in range(max(want.n for want in wants))
            for want in wants
            if turn < want.n
        ]
        tasks = run.suite.sample("gate", [cell[:2] for cell in cells], *stage)
        fresh = self.spent.take(tasks)
        drawn: dict[tuple[bool, str], list[Task]] = {}
        for index in fresh:
            skill, _, best = cells[index]
            other = self._holders[skill] if best else run.champion.id
            drawn.setdefault((best, other), []).append(tasks[index])
        missed = {want.skill for want in wants} - {cells[index][0] for index in fresh}
        self._dry = self._dry + 1 if missed else 0
        if self._dry >= DRY:
            return None
        return [
            Match(
                run.rollouts(self._candidate, chosen, (*stage, other) if best else stage, parts=not best),
                run.rollouts(run.archive[other], chosen, (*stage, other) if best else stage, parts=not best),
                best,
            )
            for (best, other), chosen in sorted(drawn.items())
        ]
