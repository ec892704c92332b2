"""Ablation: promoted weights alone, with the program they came with, and with one that was searched for beside them."""

from __future__ import annotations

from moevolve.journal.archive import Variant
from moevolve.loop import entries
from moevolve.loop.context import RunContext
from moevolve.loop.stages.score import dev_tasks
from moevolve.records import Ablated
from moevolve.rollouts.scoring import interval


def ablate(run: RunContext, cycle: int) -> Ablated:
    """The record of the newest promotion of weights, whose parts are scored on the dev tasks of this cycle.

    Args:
        run: a run whose state names weights to ablate; it names none afterwards.
        cycle: the cycle under way.
    """
    assert run.state.unablated is not None, "there are promoted weights"
    name, program = run.state.unablated
    run.state.unablated = None
    promoted, found = run.archive[name], _found(run, name)
    stage, tasks = dev_tasks(run, cycle)
    requests = [
        run.bare(promoted, tasks, stage, grader=run.sealed),
        run.rollouts(promoted, tasks, stage, grader=run.sealed),
    ]
    if found is not None:
        requests.append(run.rollouts(found, tasks, stage, grader=run.sealed))
    scored = run.roll(*requests)
    attempts = dict(zip(("bare", "old", "searched"), (each.attempts for each in scored), strict=False))
    return Ablated(
        cycle=cycle,
        weights=name,
        bare=interval(attempts["bare"]),
        old=interval(attempts["old"]),
        program=program,
        searched=interval(attempts.get("searched", ())),
        variant=found.id if found else None,
        promoted=found is not None and found.id == run.state.champion,
        outcomes={what: [entries.outcome(each) for each in of] for what, of in attempts.items()},
        tokens=sum(each.counts.tokens for each in scored),
    )


def _found(run: RunContext, name: str) -> Variant | None:
    """The best of the programs that were made for these weights: the champion's, or the best one of the screening."""
    own = [
        each for each in run.archive if each.level == "program" and each.weights == run.archive[name].weights
    ]
    if run.champion in own:
        return run.champion
    # Of equals the first.
    return max(
        (each for each in own if each.score is not None), key=lambda each: each.score or 0.0, default=None
    )
