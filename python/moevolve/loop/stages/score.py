"""Scoring: the champion on the sealed tasks, the same before and after, or on fresh dev tasks."""

from __future__ import annotations

from typing import Literal

from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.records import Evaluated


def score(
    run: RunContext, cycle: int, split: Literal["sealed", "dev"], when: Literal["initial", "cycle", "final"]
) -> Evaluated:
    """The champion's score, ready for the journal."""
    suite, seed = run.config.suite, run.config.seed
    each = suite.sealed_per_cell if split == "sealed" else suite.dev_per_cell
    stage = (seed, 0, "sealed") if split == "sealed" else (seed, cycle, "dev")
    tasks = run.suite.sample(split, [cell for cell in run.cells for _ in range(each)], *stage)
    [scored] = run.roll(run.rollouts(run.champion, tasks, stage, grader=run.sealed))
    run.bill(cycle, f"{split} {when}" if split == "sealed" else split)
    return entries.evaluated(cycle, split, when, run.champion.id, scored.attempts, scored.counts.tokens)
