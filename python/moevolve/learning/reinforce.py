"""Learning by a policy's loss: what the bare policy drew, weighed by how much better than its group an answer was.

A group is one task's answers, and an advantage is a reward less the group's mean; GRPO and DAPO divide by the group's
deviation too, CISPO and Dr. GRPO do not. Groups whose answers were all right or all wrong say nothing and are left out, as
in DAPO. What the advantages then go into is the engine's matter (`policy_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

import msgspec

from moevolve.learning.schedule import Schedule
from moevolve.learning.training import Progress, refresh
from moevolve.models.engine import Engine
from moevolve.models.positions import training_positions
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.records import Recipe, Trained
from moevolve.rollouts.attempts import Attempt

Loss = Literal["cispo", "grpo", "dapo", "dr_grpo"]


class Answer(msgspec.Struct, frozen=True):
    """A drawn answer in tokens, its end included. It is the text that was graded: what else was drawn is left out."""

    ids: list[int]
    start: int
    advantage: float
    old: list[float]
    """Log-probability of each answer token under the policy that drew it."""


def advantages(rewards: Sequence[float], loss: Loss) -> list[float]:
    """Of one group; nothing if the rewards are all alike.

    >>> advantages([1.0, 0.0, 0.0, 1.0], "cispo")
    [0.5, -0.5, -0.5, 0.5]
    """
    if min(rewards) == max(rewards):
        return []
    mean = sum(rewards) / len(rewards)
    apart = [reward - mean for reward in rewards]
    if loss in ("grpo", "dapo"):
        deviation = (sum(x * x for x in apart) / len(apart)) ** 0.5
        return [x / deviation for x in apart]
    return apart


def groups_of(
    attempts: Sequence[Attempt], drew: Engine, prompts: Prompts, loss: Loss = "cispo"
) -> list[list[Answer]]:
    """One group a task whose answers differ in reward, in the order of the tasks.

    Args:
        attempts: direct attempts, those of a task in a row.
        drew: the engine that answered.
        prompts: how texts become its tokens.
        loss: what the advantages are for.
    """
    by_task: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.answer:
            by_task.setdefault(attempt.task.prompt, []).append(attempt)
    groups = []
    for prompt, group in by_task.items():
        found = advantages([attempt.verdict.score for attempt in group], loss)
        if not found:
            continue
        asked = prompts.ask(prompt)
        rows = [asked + prompts.say(attempt.answer) for attempt in group]
        olds = drew.native.logprobs([(ids, len(asked), 0) for ids in rows])
        groups.append(
            [
                Answer(ids, len(asked), advantage, old)
                for ids, advantage, old in zip(rows, found, olds, strict=True)
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
    loss: Loss,
    clip: tuple[float, float],
    prompts: Prompts | None = None,
    spread: bool = True,
    schedule: Schedule = "linear",
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
        loss: which loss.
        clip: how far below and above 1 the ratio's bounds lie; CISPO has none below.
        prompts: how texts become the model's tokens, the same as in attempts; None asks with the bare texts.
        spread: draw positions as `training_positions` does, instead of counting from 0.
        schedule: of the learning rate.
    """
    groups = groups_of(attempts, drew, prompts or BarePrompts(engine), loss)
    if not groups:
        return 0
    refresh(engine)
    progress = Progress(cycle, recipe, report, schedule)
    longest = max(len(answer.old) for group in groups for answer in group)
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
        result = engine.native.policy_step(
            batch,
            progress.rate(step),
            loss,
            clip_low=clip[0],
            clip_high=clip[1],
            length=longest,
            norms=progress.due(step),
        )
        progress.add(step, result)
    return progress.trained
