"""Group-relative advantages of rollouts: how much better than the other answers to its prompt one was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from moevolve.errors import UsageError
from moevolve.protocol.training import Rollout

Loss = Literal["cispo", "grpo", "dapo", "dr_grpo"]


def advantages(rewards: Sequence[float], loss: Loss) -> list[float]:
    """Of one group: each reward less the group's mean, for GRPO and DAPO divided by its standard deviation.

    Empty if the rewards are all alike: such a group says nothing.

    >>> advantages([1.0, 0.0, 0.0, 1.0], "cispo")
    [0.5, -0.5, -0.5, 0.5]
    """
    if min(rewards) == max(rewards):
        return []
    mean = sum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if loss in ("grpo", "dapo"):
        deviation = (sum(x * x for x in centred) / len(centred)) ** 0.5
        return [x / deviation for x in centred]
    return centred


def weighed(rollouts: Sequence[Rollout], loss: Loss) -> list[Rollout]:
    """Rollouts with an advantage each, in their order; groups whose rewards are all alike are left out, as in DAPO.

    Raises:
        UsageError: a rollout has neither advantage nor reward, or both, or no group's rewards differ.
    """
    groups: dict[int | str, list[int]] = {}
    kept: dict[int, Rollout] = {}
    for index, rollout in enumerate(rollouts):
        if (rollout.advantage is None) == (rollout.reward is None):
            raise UsageError(f"rollout {index}: it has an advantage, or a reward and its group, not both")
        if rollout.reward is None:
            kept[index] = rollout
        else:
            groups.setdefault(rollout.group, []).append(index)
    for members in groups.values():
        rewards = [rollouts[index].reward or 0.0 for index in members]
        for index, advantage in zip(members, advantages(rewards, loss), strict=False):
            kept[index] = msgspec.structs.replace(rollouts[index], advantage=advantage)
    if rollouts and not kept:
        raise UsageError("the rewards of every group are all alike: there is nothing to learn from them")
    return [kept[index] for index in sorted(kept)]
