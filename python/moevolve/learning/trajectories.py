"""Trajectories of a program that computes as rollouts: each request, with the tokens and log-probabilities that were drawn.

A group is the attempts at one task. Whatever an attempt asked gets the attempt's advantage, as in GRPO over an agent's
steps; the program's own texts are prompts at most, and nothing of them is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.learning.buffer import of_train
from moevolve.models.advantages import Loss, advantages
from moevolve.models.asking import asked_tokens
from moevolve.models.engine import Engine
from moevolve.models.prompts import Prompts
from moevolve.protocol.requests import Exchange
from moevolve.protocol.training import Rollout
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.suite import Suite


def groups_of_trajectories(
    attempts: Sequence[Attempt],
    exchanges: Sequence[Sequence[Exchange]],
    drew: Engine,
    prompts: Prompts,
    suite: Suite,
    loss: Loss = "cispo",
) -> list[list[Rollout]]:
    """One group a task whose attempts differ in reward, in the order of the tasks.

    Args:
        attempts: attempts through a program, several a task.
        exchanges: what each asked, and what was drawn for it.
        drew: the engine that answered.
        prompts: how texts become its tokens.
        suite: whose tasks they are; a question that may be a task of another split than train is left out.
        loss: what the advantages are for.
    """
    by_task: dict[str, list[tuple[Attempt, list[Exchange]]]] = {}
    for attempt, said in zip(attempts, exchanges, strict=True):
        if attempt.answered:
            own = [each for each in of_train(attempt.task, said, suite) if _known(each)]
            by_task.setdefault(attempt.task.id, []).append((attempt, own))
    groups = []
    for group in by_task.values():
        gains = advantages([attempt.verdict.score for attempt, _ in group], loss)
        rollouts = [
            _rollout(each, gain, drew, prompts)
            for (_, said), gain in zip(group, gains, strict=False)
            for each in said
        ]
        if rollouts:
            groups.append(rollouts)
    return groups


def _known(said: Exchange) -> bool:
    """Whether each drawn token has its log-probability."""
    return bool(said.tokens) and len(said.logprobs) == len(said.tokens) + said.ended


def _rollout(said: Exchange, gain: float, drew: Engine, prompts: Prompts) -> Rollout:
    asked = asked_tokens(drew, prompts, said.prompt, said.tools, worded=said.worded)
    end = drew.ending if said.ended else []
    return Rollout(
        tokens=[*asked, *said.tokens, *end], start=len(asked), logprobs=list(said.logprobs), advantage=gain
    )
