"""Learning by a policy's loss: what the policy drew, alone or for a program, weighed by how far it is above its group.

A group is one task's answers, and an advantage is a reward less the group's mean; GRPO and DAPO divide by the group's
deviation too, CISPO and Dr. GRPO do not. Groups whose answers were all right or all wrong say nothing and are left out, as
in DAPO. What the advantages then go into is the engine's matter (`Engine.reinforce`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from msgspec.structs import replace

from moevolve.learning.schedule import Schedule
from moevolve.learning.training import Progress, refresh
from moevolve.models.advantages import Loss, advantages
from moevolve.models.asking import asked_tokens
from moevolve.models.engine import Engine
from moevolve.models.positions import training_positions
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.protocol.training import Example, Rollout
from moevolve.records import Recipe, Trained
from moevolve.rollouts.attempts import Attempt


def groups_of(
    attempts: Sequence[Attempt], drew: Engine, prompts: Prompts, loss: Loss = "cispo"
) -> list[list[Rollout]]:
    """One group a task whose answers differ in reward, in the order of the tasks.

    Args:
        attempts: direct attempts, those of a task in a row.
        drew: the engine that answered.
        prompts: how texts become its tokens.
        loss: what the advantages are for.
    """
    by_task: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.answered:
            by_task.setdefault(attempt.task.identity, []).append(attempt)
    groups = []
    for group in by_task.values():
        gains = advantages([attempt.verdict.score for attempt in group], loss)
        if not gains:
            continue
        asked = asked_tokens(drew, prompts, group[0].task.question, (), worded=True)
        rows = [Example(tokens=asked + prompts.say(attempt.answer), start=len(asked)) for attempt in group]
        groups.append(
            [
                Rollout(tokens=row.tokens, start=row.start, logprobs=logprobs, advantage=gain)
                for row, logprobs, gain in zip(rows, drew.logprobs(rows), gains, strict=True)
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
    trajectories: Sequence[list[Rollout]] = (),
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
        trajectories: further groups, of a program's attempts.
        prompts: how texts become the model's tokens, the same as in attempts; None asks with the bare texts.
        spread: draw positions as `training_positions` does, instead of counting from 0.
        schedule: of the learning rate.
    """
    groups = [*groups_of(attempts, drew, prompts or BarePrompts(engine), loss), *trajectories]
    if not groups:
        return 0
    refresh(engine)
    progress = Progress(cycle, recipe, report, schedule)
    longest = max(len(answer.logprobs) for group in groups for answer in group)
    waiting: list[list[Rollout]] = []
    for step in range(1, recipe.steps + 1):
        batch: list[Rollout] = []
        while len(batch) < recipe.batch:
            if not waiting:
                waiting = draw.sample(groups, len(groups))
            for answer in waiting.pop():
                positions = training_positions(len(answer.tokens), draw) if spread else 0
                batch.append(replace(answer, positions=positions, age=step - 1))
        result = engine.reinforce(
            batch, progress.rate(step), loss=loss, clip=clip, length=longest, norms=progress.due(step)
        )
        progress.add(step, result)
    return progress.trained
