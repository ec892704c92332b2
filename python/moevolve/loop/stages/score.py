"""Scoring: the champion on the sealed tasks, the same before and after, or on fresh dev tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moevolve.errors import UsageError
from moevolve.loop import entries, samples
from moevolve.loop.context import RunContext
from moevolve.loop.sealed import open_sealed
from moevolve.records import Evaluated
from moevolve.rollouts.attempts import Attempt
from moevolve.rollouts.runner import Stage
from moevolve.tasks.grading import BROKEN
from moevolve.tasks.task import Task

MOST_BROKEN = 0.5
"""Share of an evaluation's checks that may fail before the run stops: a score over the others would say nothing."""
LEAST_BROKEN = 16
"""Failed checks that it takes, where some did not fail: of a handful, most may fail by chance."""


def score(
    run: RunContext, cycle: int, split: Literal["sealed", "dev"], when: Literal["initial", "cycle", "final"]
) -> tuple[Evaluated, list[Attempt]]:
    """The champion's score, ready for the journal, and the attempts that it is of."""
    seed = run.config.seed
    stage: Stage
    if when != "cycle" and split == "sealed":
        stage, tasks = (seed, 0, "sealed"), open_sealed(run, cycle, when)
    else:
        stage, tasks = dev_tasks(run, cycle)
    requests = [run.rollouts(run.champion, tasks, stage, grader=run.sealed)]
    if run.suite.answers == "any" and split == "sealed":
        requests.append(run.bare(run.champion, tasks, stage, grader=run.sealed))
    scored, *alone = run.roll(*requests)
    run.bill(cycle, f"{split} {when}" if split == "sealed" else split)
    _refuse_broken_checks(scored.attempts)
    attempts, tokens = scored.attempts, sum(each.counts.tokens for each in (scored, *alone))
    if split == "dev":
        run.journal.keep([samples.of_stage(cycle, split, run.champion.id, scored)])
    direct = alone[0].attempts if alone else ()
    return entries.evaluated(cycle, split, when, run.champion.id, attempts, tokens, direct), attempts


def dev_tasks(run: RunContext, cycle: int) -> tuple[Stage, list[Task]]:
    """A cycle's dev tasks, fresh as far as the suite has so many, and the stage that their attempts draw for."""
    stage: Stage = (run.config.seed, cycle, "dev")
    return stage, run.suite.sample("dev", run.suite.spread("dev", run.config.suite.dev_per_cell), *stage)


def _refuse_broken_checks(attempts: Sequence[Attempt]) -> None:
    """Stops a run whose suite cannot grade.

    Raises:
        UsageError: most of an evaluation's checks raised or returned no score; shows one traceback and its task.
    """
    broken = [attempt for attempt in attempts if attempt.verdict.failure in BROKEN]
    most = len(broken) > MOST_BROKEN * len(attempts)
    if broken and most and (len(broken) >= LEAST_BROKEN or len(broken) == len(attempts)):
        raise UsageError(
            f"{len(broken)} of {len(attempts)} answers could not be graded, since the suite's own check failed; the first "
            f"time on task {broken[0].task.called!r}:\n{broken[0].verdict.detail}"
        )
