"""The null hypotheses of a run's end: what the bare policy does with as much as the champion's program takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from moevolve.journal.intervals import paired_gain
from moevolve.loop.context import RunContext
from moevolve.records import Difference, Nulls
from moevolve.rollouts.attempts import Attempt, Rollouts
from moevolve.rollouts.runner import Stage
from moevolve.rollouts.scoring import score

MOST = 64
"""Samples of a task at most."""
TEMPERATURE = 0.7


def nulls(run: RunContext) -> Nulls | None:
    """The champion beside two baselines at its own budget, on fresh dev tasks; None where its program is the first one,
    which is its own baseline. The budget is what an attempt asks or draws, whichever allows more samples.

    Self-consistency is the most frequent of N samples; best-of-N the best of them by the grader's own verdicts, which
    bounds whatever could choose among them.
    """
    first = next(iter(run.archive))
    wanted = run.config.evolve.nulls
    if run.champion.program == first.program or wanted == "off":
        return None
    if wanted == "auto" and run.config.policy.endpoint is not None:
        return None
    run.progress("scoring the champion beside the bare policy at its budget", 1.0)
    stage: Stage = (run.config.seed, run.state.cycle, "nulls")
    tasks = run.suite.sample("dev", run.suite.spread("dev", run.config.suite.dev_per_cell), *stage)

    champion, greedy = run.roll(
        run.rollouts(run.champion, tasks, stage, grader=run.sealed, parts=True),
        run.bare(run.champion, tasks, stage, grader=run.sealed),
    )
    asked = sum(map(len, champion.parts if champion.exchanges is None else champion.exchanges))
    budget = max(asked / len(tasks), champion.counts.tokens / max(1, greedy.counts.tokens))
    samples = max(1, min(MOST, math.ceil(budget)))
    [drawn] = run.roll(
        run.bare(run.champion, tasks, stage, samples=samples, temperature=TEMPERATURE, grader=run.sealed)
    )
    run.bill(run.state.cycle, "nulls")
    groups = [drawn.attempts[at : at + samples] for at in range(0, len(drawn.attempts), samples)]
    others = {
        "greedy": greedy.attempts,
        "self_consistency": [most_frequent(group) for group in groups],
        "best_of": [max(group, key=_worth) for group in groups],
    }
    return Nulls(
        cycle=run.state.cycle,
        variant=run.champion.id,
        samples=samples,
        champion=score(champion.attempts)[0],
        tokens=_tokens(champion, greedy, drawn),
        over={
            name: found
            for name, attempts in others.items()
            if (found := difference(champion.attempts, attempts)) is not None
        },
        **{name: score(attempts)[0] for name, attempts in others.items()},
    )


def difference(ours: Sequence[Attempt], theirs: Sequence[Attempt]) -> Difference | None:
    """What the first side's score is above the second's, task by task; None where no task has two answers."""
    sides = [[each.verdict.score if each.answered else None for each in side] for side in (theirs, ours)]
    if (found := paired_gain(*sides)) is None:
        return None
    gain, (low, high) = found
    return Difference(
        gain=gain, low=low, high=high, n=sum(None not in pair for pair in zip(*sides, strict=True))
    )


def most_frequent(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt whose answer came most often; the earliest of several."""
    answers = [attempt.answer for attempt in attempts]
    return max(attempts, key=lambda attempt: answers.count(attempt.answer) * attempt.answered)


def _worth(attempt: Attempt) -> tuple[bool, float]:
    return attempt.answered, attempt.verdict.score


def _tokens(*rollouts: Rollouts) -> int:
    return sum(each.counts.tokens for each in rollouts)
