"""Generalisation: the first variant and the champion on the screening's tasks, and on what the run never worked on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import msgspec

from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.loop.generalising import COLUMNS, HeldOut, held_out, spread
from moevolve.loop.sealed import open_held_out
from moevolve.records import Column, Generalised
from moevolve.rollouts.runner import Stage
from moevolve.rollouts.scoring import interval


def generalise(run: RunContext, done: list[Generalised]) -> None:
    """Scores the columns, each on record before the next one begins.

    Args:
        run: the run, whose last score is on record.
        done: takes the columns.
    """
    growing = run.growing
    changes = (*growing.changes, *growing.declined, *growing.taken_back)
    held = held_out(run.config, run.suite, {leaf.path for change in changes for leaf in change.leaves})
    for column in COLUMNS:
        run.progress(f"scoring generalisation, {column}", 1.0)
        record = _scored(run, column, held)
        run.journal.write([record])
        done.append(record)


def unmeasured(run: RunContext, done: Iterable[Generalised]) -> list[Generalised]:
    """Records of the columns that were asked for, and that a run which was cut short lacks."""
    there = {record.column for record in done}
    asked = COLUMNS if run.config.generalise.per_cell else ()
    return [_absent(run, column, "the run was cut short") for column in asked if column not in there]


def _scored(run: RunContext, column: Column, held: HeldOut) -> Generalised:
    if column == "G0":
        screened = run.state.screened.get(run.champion.program, [])
        tasks = [run.suite.task(*name) for name in screened]
        reason = "" if tasks else "the champion's program passed no screening"
    elif not (reason := held.reasons.get(column, "")):
        cells = spread(held.suite, held.cells[column], run.config.generalise.per_cell)
        tasks = open_held_out(run, run.state.cycle, held.suite, cells)
    if reason:
        return _absent(run, column, reason)
    stage: Stage = (run.config.seed, 0, "generalise", column)
    first = next(iter(run.archive))
    # What the run learnt is not the first variant's; what it took over from other runs is left out with it.
    requests = (
        msgspec.structs.replace(run.rollouts(first, tasks, stage), memory=False),
        run.rollouts(run.champion, tasks, stage),
    )
    plans: dict[str, str] = {}
    if column == "G0":
        seed, champion = run.roll(*(msgspec.structs.replace(each, grader=run.sealed) for each in requests))
    else:
        seed, champion = run.growing.roll(*requests, suite=held.suite, sealed=True)
        if run.suite.answers == "policy":
            plans = {each.id: run.growing.plans(each.program, held.suite) for each in (first, run.champion)}
    run.bill(run.state.cycle, f"generalise {column}")
    both = list(zip(seed.attempts, champion.attempts, strict=True))
    return Generalised(
        cycle=run.state.cycle,
        column=column,
        variant=run.champion.id,
        cells=[(*cell, len(list(of))) for cell, of in groupby((task.skill, task.level) for task in tasks)],
        outcomes={
            "seed": [entries.outcome(each) for each, _ in both],
            "champion": [entries.outcome(each) for _, each in both],
        },
        seed=interval(seed.attempts),
        champion=interval(champion.attempts),
        missing=sum(not (mine.answered and its.answered) for mine, its in both),
        tokens=seed.counts.tokens + champion.counts.tokens,
        behaviours=plans,
    )


def _absent(run: RunContext, column: Column, reason: str) -> Generalised:
    return Generalised(
        cycle=run.state.cycle,
        column=column,
        variant=run.champion.id,
        cells=[],
        outcomes={},
        seed=None,
        champion=None,
        missing=0,
        tokens=0,
        reason=reason,
    )
