"""Learning by a policy's loss: what the bare policy drew, weighed by how much better than its group an answer was.

CISPO (MiniMax-M1, 2025): the ratio to the policy that drew the answer is bounded above, below by 0, and not differentiated,
so no token loses its gradient; the mean goes over tokens. A group is one task's answers, an advantage is a reward less the
group's mean; groups whose answers were all right or all wrong say nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from moevolve.evolve.attempts import Attempt
from moevolve.evolve.training import Progress, rate, refresh
from moevolve.policy.engine import Engine
from moevolve.policy.positions import training_positions
from moevolve.policy.prompts import BarePrompts, Prompts
from moevolve.records import Recipe, Trained


class Answer(msgspec.Struct, frozen=True):
    """A drawn answer in tokens, its end included. It is the text that was graded: what else was drawn is left out."""

    ids: list[int]
    start: int
    advantage: float
    old: list[float]
    """Log-probability of each answer token under the policy that drew it."""


def groups_of(attempts: Sequence[Attempt], drew: Engine, prompts: Prompts) -> list[list[Answer]]:
    """One group a task whose answers differ in reward, in the order of the tasks.

    Args:
        attempts: direct attempts, those of a task in a row.
        drew: the engine that answered.
        prompts: how texts become its tokens.
    """
    by_task: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.answer:
            by_task.setdefault(attempt.task.prompt, []).append(attempt)
    groups = []
    for prompt, group in by_task.items():
        rewards = [attempt.verdict.score for attempt in group]
        mean = sum(rewards) / len(rewards)
        if all(reward == mean for reward in rewards):
            continue
        asked = prompts.ask(prompt)
        rows = [asked + prompts.say(attempt.answer) for attempt in group]
        olds = drew.native.logprobs([(ids, len(asked), 0) for ids in rows])
        groups.append(
            [
                Answer(ids, len(asked), reward - mean, old)
                for ids, reward, old in zip(rows, rewards, olds, strict=True)
            ]
        )
    return groups


def reinforce(
    engine: Engine,
    attempts: Sequence[Attempt],
    recipe: Recipe,
    cycle: int,
    draw: Random,
    report: Callable[[Trained], None],
    *,
    drew: Engine,
    clip: float,
    prompts: Prompts | None = None,
    spread: bool = True,
) -> int:
    """Trains `engine` in place; returns the number of trained tokens, 0 where no group says anything.

    Args:
        engine: a copy that becomes the candidate.
        attempts: this cycle's direct attempts.
        recipe: learning rate, steps and batch size.
        cycle: the cycle.
        draw: source of the groups' order and of positions.
        report: takes progress records.
        drew: the engine that made the attempts.
        clip: distance of the ratio's upper bound from 1.
        prompts: how texts become the model's tokens, the same as in attempts; None asks with the bare texts.
        spread: draw positions as `training_positions` does, instead of counting from 0.
    """
    groups = groups_of(attempts, drew, prompts or BarePrompts(engine))
    if not groups:
        return 0
    refresh(engine)
    progress = Progress(cycle, recipe, report)
    waiting: list[list[Answer]] = []
    for step in range(1, recipe.steps + 1):
        batch: list[
            tuple[list[int], int, int | list[int], float | list[float], list[float], list[float] | None, int]
        ] = []
        while len(batch) < recipe.batch:
            if not waiting:
                waiting = draw.sample(groups, len(groups))
            for answer in waiting.pop():
                positions = training_positions(len(answer.ids), draw) if spread else 0
                batch.append(
                    (answer.ids, answer.start, positions, answer.advantage, answer.old, None, step - 1)
                )
        result = engine.native.policy_step(batch, rate(recipe, step), "cispo", clip_low=1.0, clip_high=clip)
        progress.add(step, result)
    return progress.trained
