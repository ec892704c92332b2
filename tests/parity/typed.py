"""What torch is compared with, as the engine takes it."""

from __future__ import annotations

from collections.abc import Sequence

import losses
import reference as ref
from moevolve.protocol.sampling import Sampling, TokenRequest
from moevolve.protocol.training import Example, Rollout


def examples(batch: Sequence[ref.Example]) -> list[Example]:
    """A batch of examples."""
    return [
        Example(tokens=ids, start=start, positions=positions, weight=weight)
        for ids, start, positions, weight in batch
    ]


def rollouts(batch: Sequence[losses.Rollout]) -> list[Rollout]:
    """A batch of sampled answers."""
    names = ("tokens", "start", "positions", "advantage", "logprobs", "reference", "age")
    return [Rollout(**dict(zip(names, row, strict=True))) for row in batch]


def greedy(prompt: Sequence[int], max_tokens: int) -> TokenRequest:
    """The likeliest continuation."""
    return TokenRequest(prompt, Sampling(max_tokens=max_tokens, temperature=0.0), [0])
