"""What the tree grew, beside the gate: a candidate that has passed may not have lost a leaf that no score counts."""

from __future__ import annotations

import math

from moevolve.guard.evidence import AlarmBudget, log_binomial
from moevolve.guard.guard import share, suspects
from moevolve.journal.archive import Variant
from moevolve.journal.figures import counted, gain
from moevolve.loop.context import RunContext
from moevolve.randomness import rng
from moevolve.records import Guarded
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.suite import Cell

GUARD = "growth"
PAIRS = 48
"""Paired tasks of each leaf."""


def unharmed(run: RunContext, cycle: int, candidate: Variant) -> Guarded | None:
    """Whether a candidate holds what the tree grew; None where it grew nothing.

    Candidate and champion meet on the same gate tasks of each leaf, and of the levels that a leaf opened. A leaf is lost
    where the candidate falls behind by more than the gate's margin and an exact sign test shows a loss, all leaves
    together within the check's share of the guards' error rate. The gate's own statistic knows the suite alone.
    """
    growing, seed = run.growing, run.config.seed
    if not growing.levels:
        return None
    stage = (seed, cycle, "grown gate", candidate.id)
    draw = rng(*stage, "cells")
    cells: list[Cell] = [
        (path, draw.randint(low, high)) for path, (low, high) in growing.levels.items() for _ in range(PAIRS)
    ]
    tasks = growing.suite.sample("gate", cells, *stage)
    ours, theirs = growing.roll(
        run.rollouts(candidate, tasks, stage), run.rollouts(run.champion, tasks, stage)
    )
    checks = run.state.guards.checks
    proof = AlarmBudget(alpha=share(run.config), checks=checks.get(GUARD, 0)).proof
    checks[GUARD] = checks.get(GUARD, 0) + 1
    by_leaf: dict[str, list[tuple[Attempt, Attempt]]] = {path: [] for path in growing.levels}
    for mine, its in zip(ours.attempts, theirs.attempts, strict=True):
        # A candidate chooses what it asks: one that alone has no answer lost there.
        if mine.answered or its.answered:
            by_leaf[mine.task.skill].append((mine, its))
    lost, worst = [], 0.0
    for path, pairs in by_leaf.items():
        fall, evidence = fallen([(mine.verdict.success, its.verdict.success) for mine, its in pairs])
        evidence -= math.log(len(by_leaf))
        worst = max(worst, evidence)
        if fall > run.config.gate.margin and evidence >= proof:
            lost.append((path, fall))
    words = ", ".join(f"{path} {gain(-fall)}" for path, fall in lost)
    tried = sum(map(len, by_leaf.values()))
    return Guarded(
        cycle=cycle,
        guard=GUARD,
        checked=len(by_leaf),
        vetoed=len(lost),
        detail=f"{words or 'nothing that grew is lost'} on {counted(tried, 'paired task')}",
        variant=candidate.id,
        evidence=worst,
        proof=proof,
        attempts=suspects(
            [
                (path, mine)
                for path, _ in lost
                for mine, its in by_leaf[path]
                if its.verdict.success and not mine.verdict.success
            ]
        ),
        tokens=ours.counts.tokens + theirs.counts.tokens,
    )


def fallen(pairs: list[tuple[bool, bool]]) -> tuple[float, float]:
    """How far a candidate lies behind on pairs (candidate, champion), and the log of 1/p that it is no chance."""
    losses = sum(its and not mine for mine, its in pairs)
    wins = sum(mine and not its for mine, its in pairs)
    if losses <= wins:
        return (losses - wins) / max(1, len(pairs)), 0.0
    return (losses - wins) / len(pairs), log_binomial(losses + wins, 0.5, losses)
