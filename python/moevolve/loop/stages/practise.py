"""Practice: attempts on train tasks, and what memory, mastery and the training buffer take from their verdicts."""

from __future__ import annotations

import msgspec

from moevolve.config.schema import AGAIN
from moevolve.loop.context import RunContext
from moevolve.loop.stages.attempts import Source, record_attempts
from moevolve.loop.stages.grow import practise_grown, shared_tasks
from moevolve.loop.stages.remember import remember
from moevolve.randomness import rng
from moevolve.records import AGAIN_STAGE, Learned, Recipe
from moevolve.rollouts.attempts import Attempt, Rollouts, answered, tally
from moevolve.rollouts.runner import RolloutRequest
from moevolve.skills.curriculum import by_amplification, by_practice, drawn_by_weight
from moevolve.skills.mastery import FADE
from moevolve.skills.prerequisites import readiness

SOURCES: tuple[Source, Source] = ("direct", "program")


class Practice(msgspec.Struct, frozen=True):
    """Answered attempts of one cycle."""

    latest: list[Attempt]
    """Through the program, or by the bare policy where there were none."""
    direct: list[Attempt]
    """By the bare policy."""
    through: Rollouts | None = None
    """Through a program that computes, with what it asked."""


def practise(run: RunContext, cycle: int, recipe: Recipe | None) -> Practice:
    """Attempts by the bare policy (several samples a task) and through the program, in the recipe's shares."""
    run.progress("attempts on train tasks", 0.02)
    requests = _requests(run, cycle, recipe)
    found = dict(zip(requests, run.roll(*requests.values()), strict=True))
    for source, rollouts in found.items():
        record_attempts(run, cycle, source, source, rollouts)
        if rollouts.parts and run.arm.learns and run.arm.filters:
            run.buffer.add_parts(rollouts.attempts, rollouts.parts, cycle, run.suite)
    confirmed = 0
    for source, rollouts in found.items():
        attempts = answered(rollouts.attempts)
        mastery = run.direct if source == "direct" else run.through
        mastery.fade(FADE)
        for t in tally(attempts):
            mastery.observe(t.skill, t.level, t.successes, t.attempts)
        if rollouts.exchanges is None:
            confirmed += run.buffer.add(attempts, cycle, confirmed_only=run.arm.filters)
        elif run.arm.learns:
            confirmed += run.buffer.add_exchanges(
                rollouts.attempts, rollouts.exchanges, cycle, run.suite, confirmed_only=run.arm.filters
            )
    if "direct" in found:
        confirmed += _again(run, cycle, answered(found["direct"].attempts))
    confirmed += practise_grown(run, cycle, recipe)
    agent = found.get("program")
    direct, through = (answered(found[source].attempts) if source in found else [] for source in SOURCES)
    latest = through or direct
    lessons = len(remember(run, cycle, latest, requests.get("program"), agent))
    run.state.lessons += lessons
    run.journal.write(
        [Learned(cycle=cycle, lessons=lessons, confirmed=confirmed, buffer=len(run.buffer), recipe=recipe)]
    )
    return Practice(latest, direct, agent if agent and agent.exchanges is not None else None)


def _again(run: RunContext, cycle: int, direct: list[Attempt]) -> int:
    """Further attempts at tasks that the bare policy failed; returns how many were confirmed.

    What it gets right at once is what it knows: of a sum without a carry far more answers are confirmed than of one with
    many. What comes right in one of `AGAIN` tries is what it nearly knows.
    """
    if not run.config.attempts.tried_again or not run.arm.learns or not run.arm.filters:
        return 0
    config, stage = run.config, (run.config.seed, cycle, AGAIN_STAGE)
    solved = {attempt.task.identity for attempt in direct if attempt.verdict.success}
    failed = list({a.task.identity: a.task for a in direct if a.task.identity not in solved}.values())
    weights = by_practice(run.direct, run.through, readiness(run.suite.requires, run.through))
    cells = [(task.skill, task.level) for task in failed]
    places = drawn_by_weight(cells, weights, config.attempts.tried_again, rng(*stage, "tasks"))
    if not places:
        return 0
    tasks, temperature = [failed[place] for place in places], config.policy.temperature
    (rollouts,) = run.roll(run.bare(run.champion, tasks, stage, samples=AGAIN, temperature=temperature))
    record_attempts(run, cycle, AGAIN_STAGE, "direct", rollouts)
    return run.buffer.add(answered(rollouts.attempts), cycle)


def _requests(run: RunContext, cycle: int, recipe: Recipe | None) -> dict[Source, RolloutRequest]:
    """The rollouts of both sources; one without tasks is left out."""
    config, seed, champion = run.config, run.config.seed, run.champion
    (bare, through), _ = shared_tasks(run, recipe)
    focus = recipe.focus if recipe else 0.0
    ready = readiness(run.suite.requires, run.through)
    requests: dict[Source, RolloutRequest] = {}
    if bare:
        weights = by_practice(run.direct, run.through, ready)
        requests["direct"] = run.bare(
            champion,
            run.tasks("train", cycle, "direct", bare, weights, focus),
            (seed, cycle, "direct"),
            samples=config.attempts.samples,
            temperature=config.policy.temperature,
        )
    if through:
        weights = by_amplification(run.direct, run.through, ready)
        # A loss of groups learns from attempts at one task beside each other.
        groups = recipe is not None and run.suite.answers == "any" and config.learn.loss != "sft"
        each = min(config.attempts.samples, through) if groups else 1
        drawn = run.tasks("train", cycle, "program", through // each, weights, focus)
        tasks = [task for task in drawn for _ in range(each)]
        requests["program"] = run.rollouts(champion, tasks, (seed, cycle, "program"), parts=True)
    return requests
