"""The loop: practise, learn, search, gate, score, and repeat from a higher baseline."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.errors import SpendingLimitError
from moevolve.gate import confirmed
from moevolve.gate.spending import AlphaSpending
from moevolve.guard.guard import CycleEnd
from moevolve.journal import samples
from moevolve.journal.archive import Variant
from moevolve.journal.seal import DIGEST
from moevolve.loop import resolve, sharing
from moevolve.loop.context import RunContext
from moevolve.loop.snapshot import Snapshot
from moevolve.loop.stages.ablate import ablate
from moevolve.loop.stages.attend import attend
from moevolve.loop.stages.consolidate import consolidate
from moevolve.loop.stages.gate import finite_data
from moevolve.loop.stages.generalise import generalise, unmeasured
from moevolve.loop.stages.grow import grow, score_grown
from moevolve.loop.stages.learn import learn
from moevolve.loop.stages.nulls import nulls
from moevolve.loop.stages.practise import practise
from moevolve.loop.stages.score import score
from moevolve.loop.stages.search import search
from moevolve.records import (
    Answers,
    CycleFinished,
    CycleStarted,
    Generalised,
    Guarded,
    Level,
    Record,
    RunFinished,
    RunStarted,
    SkillInfo,
)
from moevolve.rollouts.attempts import Attempt, Counts

SEED = "v0000"

OTHER: dict[Level, Level] = {"weights": "program", "program": "weights"}

WHOSE: dict[Answers, str] = {
    "policy": "answers are plans over the policy's words",
    "any": "the program may compute its answers",
}
"""What the guard of answers says of a suite."""


def start(run: RunContext, weights: str, parameters: int) -> None:
    """Writes the first records and scores the seed on the sealed and the dev split.

    Args:
        run: a run without records.
        weights: content hash of the first weights.
        parameters: their number.
    """
    program = run.store.hold(resolve.genome(run.config, run.journal.store.path))
    run.state = Snapshot(
        champion=SEED,
        learner=weights,
        next_variant=1,
        spending=AlphaSpending(alpha=run.config.gate.alpha),
        best_levels=confirmed.begin(run.skills, SEED),
    )
    seed = run.archive.add(
        Variant(SEED, [], 0, weights, program, "seed", "seed", "as shipped", None, "champion")
    )
    run.journal.write(
        [
            RunStarted(
                run=run.run,
                seed=run.config.seed,
                arm=run.config.arm,
                suite=run.config.suite.name,
                answers=run.suite.answers,
                skills=[
                    SkillInfo(path=path, summary=skill.summary, levels=skill.levels)
                    for path, skill in sorted(run.suite.skills.items())
                ],
                config=run.config.canonical(),
                champion=SEED,
                weights=weights,
                program=program,
                parameters=parameters,
                grader=run.seal,
                shared=sharing.begin(run),
            ),
            run.joined(seed),
        ]
    )
    if run.few_tasks:
        run.journal.write([finite_data(run)])
    run.progress("scoring the seed on the sealed split", 0.0)
    initial, _ = score(run, 0, "sealed", "initial")
    run.state.first_score = run.budget.tokens, run.budget.requests
    run.budget.keep_back(*run.state.first_score)
    run.progress("scoring the seed on the dev split", 0.0)
    dev, attempts = score(run, 0, "dev", "initial")
    run.close([initial, dev, *_watch(run, 0, attempts)])


def cycle(run: RunContext) -> None:
    """One cycle: attempts, then a weights candidate, then program candidates, each through the gate.

    In arm `alternate` one level alone has its turn; a program is searched for beside new weights all the same.
    """
    number = run.state.cycle + 1
    turn = run.state.turn if run.arm.alternates else None
    run.journal.write([CycleStarted(cycle=number, champion=run.state.champion, turn=turn)])
    run.state.idle += turn is not None
    run.journal.keep(samples.outdated(run.journal.store, number))
    run.counts = Counts()
    learns = run.arm.learns and turn != "program"
    latest = learn(run, number) if learns else practise(run, number, None).latest
    attend(run, number)
    if run.arm.searches and (turn != "weights" or run.state.unablated):
        for generation in range(run.config.evolve.generations):
            search(run, number, generation, latest)
            attend(run, number)
    if run.state.unablated:
        run.progress("scoring the new weights bare, and with both programs", 0.93)
        run.journal.write([ablate(run, number)])
        run.bill(number, "ablation")
    grow(run, number, latest)
    consolidate(run, number)
    run.progress("scoring the champion on the dev split", 0.95)
    dev, attempts = score(run, number, "dev", "cycle")
    watching = _watch(run, number, attempts)
    guard = Guarded(
        cycle=number,
        guard="answers",
        checked=run.counts.checked,
        vetoed=run.counts.vetoed,
        detail=WHOSE[run.suite.answers],
    )
    run.state.cycle = number
    if turn is not None and run.state.idle >= run.config.evolve.patience:
        run.state.turn, run.state.idle = OTHER[turn], 0
    finished = CycleFinished(
        cycle=number,
        champion=run.state.champion,
        tokens_generated=run.state.tokens_generated,
        tokens_trained=run.state.tokens_trained,
        lessons=run.state.lessons,
        variants=len(run.archive),
    )
    run.close([dev, guard, *watching, finished])


def _watch(run: RunContext, cycle: int, dev: Sequence[Attempt]) -> list[Guarded]:
    """What the guards hold of the run after a cycle, and what it has asked so far."""
    run.progress("guards look at the champion", 0.98 if cycle else 0.0)
    checks = run.guards.cycle(CycleEnd(cycle=cycle, champion=run.champion, dev=dev))
    run.bill(cycle, "guards")
    budget = run.budget.check(cycle)
    return checks if budget is None else [*checks, budget]


def finish(run: RunContext, *, cut_short: bool = False) -> None:
    """Scores the champion on the same sealed tasks and closes the journal.

    Args:
        run: the run.
        cut_short: by a limit or a person, so that nothing else is measured.
    """
    if run.state.unablated and not cut_short:
        # A person approved them after the last cycle.
        run.journal.write([ablate(run, run.state.cycle)])
    run.progress("scoring the champion on the sealed split", 1.0)
    run.store.release()
    run.budget.release()
    scored: list[Record] = []
    columns: list[Generalised] = []
    try:
        scored.append(score(run, run.state.cycle, "sealed", "final")[0])
        if not cut_short and run.growing.cells:
            scored = _written(run, scored)
            scored.append(score_grown(run))
        if not cut_short and run.config.generalise.per_cell:
            scored = _written(run, scored)
            generalise(run, columns)
        if not cut_short and (beside := nulls(run)) is not None:
            scored.append(beside)
    except SpendingLimitError as error:
        cut(run, error)
    outlived = sharing.helped(run)
    ended = RunFinished(cycles=run.state.cycle, champion=run.state.champion, seal=DIGEST)
    sharing.give(run, outlived)
    scored += unmeasured(run, columns)
    run.close([*scored, *([] if outlived is None else [outlived]), ended])


def _written(run: RunContext, scored: Sequence[Record]) -> list[Record]:
    """Puts scores on record with what their attempts recalled, in one commit; returns what is left to write."""
    run.journal.write([*run.recalls.records(run.state.cycle), *scored])
    return []


def cut(run: RunContext, error: SpendingLimitError) -> None:
    """Notes that what was being done ends here, since the spending limit is reached."""
    number = run.state.cycle + 1
    run.bill(number, "cut short")
    run.journal.write([Guarded(cycle=number, guard="budget", checked=1, vetoed=1, detail=str(error))])
