"""The screening: candidates beside the champion on train tasks, most of them of the skills that some candidate changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from moevolve.journal.archive import Variant
from moevolve.loop.context import RunContext
from moevolve.rollouts.attempts import Attempt, Rollouts
from moevolve.rollouts.runner import RolloutRequest, Stage
from moevolve.tasks.task import Task

Changed = frozenset[str] | None
"""Skills that a candidate answers otherwise than the champion; None where a program computes, so that any may be."""


class Screened(msgspec.Struct, frozen=True):
    """Attempts of a screening, all in the order of its tasks."""

    baseline: list[Attempt]
    """The champion's."""
    attempts: dict[str, list[Attempt]]
    """By candidate. On a skill that it does not change they are the champion's own."""
    tokens: int
    rolled: list[tuple[RolloutRequest, Rollouts]]
    """What was wanted of candidates, and what became of it."""


def changed(run: RunContext, program: str) -> Changed:
    """The skills on which a program has another plan than the champion's."""
    ours, theirs = run.behaviours.of(program), run.behaviours.of(run.champion.program)
    if ours.computes or theirs.computes:
        return None
    return frozenset(
        skill
        for skill in run.skills
        if (ours.plans.get(skill), ours.refused.get(skill))
        != (theirs.plans.get(skill), theirs.refused.get(skill))
    )


def screened(run: RunContext, cycle: int, generation: int, candidates: Sequence[Variant]) -> Screened:
    """Attempts of candidates and champion on the same train tasks, with the same keys.

    Where answers are plans, a skill that a candidate leaves as it is would bring the champion's answers again: those are
    not drawn twice.
    """
    changes = {child.id: changed(run, child.program) for child in candidates}
    stage: Stage = (run.config.seed, cycle, "screen", generation)
    tasks = _tasks(run, cycle, generation, list(changes.values()))
    if any(skills is None for skills in changes.values()):
        asked = [run.rollouts(child, tasks, stage, twice=True) for child in candidates]
        baseline, *found = run.roll(run.rollouts(run.champion, tasks, stage), *asked)
        return Screened(
            baseline.attempts,
            {child.id: each.attempts for child, each in zip(candidates, found, strict=True)},
            sum(each.counts.tokens for each in (baseline, *found)),
            list(zip(asked, found, strict=True)),
        )
    by_skill: dict[str, list[Task]] = {}
    for task in tasks:
        by_skill.setdefault(task.skill, []).append(task)
    requests: dict[tuple[str, str], RolloutRequest] = {}
    for skill, some in by_skill.items():
        requests["", skill] = run.rollouts(run.champion, some, (*stage, skill))
        for child in candidates:
            if skill in (changes[child.id] or ()):
                requests[child.id, skill] = run.rollouts(child, some, (*stage, skill), twice=True)
    found_by = dict(zip(requests, run.roll(*requests.values()), strict=True))

    def together(name: str) -> list[Attempt]:
        return [
            attempt
            for skill in by_skill
            for attempt in (found_by.get((name, skill)) or found_by["", skill]).attempts
        ]

    return Screened(
        together(""),
        {child.id: together(child.id) for child in candidates},
        sum(rollouts.counts.tokens for rollouts in found_by.values()),
        [(request, found_by[name]) for name, request in requests.items() if name[0]],
    )


def _tasks(run: RunContext, cycle: int, generation: int, changes: Sequence[Changed]) -> list[Task]:
    """The screening's tasks: some of every skill, the rest of the skills that some candidate changes, in equal shares."""
    skills = None if None in changes else frozenset().union(*(each for each in changes if each is not None))
    weights: Mapping[tuple[str, int], float] | None = None
    if skills and skills != frozenset(run.skills):
        weights = {cell: float(cell[0] in skills) for cell in run.cells}
    return run.tasks(
        "train",
        cycle,
        f"screen/{generation}",
        run.config.evolve.screen,
        None if weights is None else dict(weights),
        focus=0.0 if weights is None else 1.0,
    )
