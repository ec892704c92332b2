"""Losses over sampled answers in torch, as their papers write them: what the engine is compared with.

CISPO: MiniMax-M1 (2025), lower bound open. GRPO: DeepSeekMath (2024). DAPO and Dr. GRPO: 2025. Nothing here knows Moevolve.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import PreTrainedModel

import reference as ref

LOSSES: dict[str, dict[str, Any]] = {
    "cispo": {"clip_low": 1.0, "clip_high": 0.3, "kl": 0.0, "length": 0},
    "grpo": {"clip_low": 0.2, "clip_high": 0.2, "kl": 0.05, "length": 0},
    "dapo": {"clip_low": 0.2, "clip_high": 0.28, "kl": 0.0, "length": 0},
    "dr_grpo": {"clip_low": 0.2, "clip_high": 0.2, "kl": 0.0, "length": 24},
}
Rollout = tuple[list[int], int, int | list[int], list[float], list[float], list[float], int]
"""(ids, where the answer starts, positions, advantages, old and reference log-probabilities, age)."""


def logprobs(model: PreTrainedModel, ids: list[int], answer: int, where: int | list[int]) -> torch.Tensor:
    """Of every token of an answer, given what stands before it."""
    row = torch.tensor([ids])
    positions = where if isinstance(where, list) else list(range(where, where + len(ids)))
    scores = model(row, position_ids=torch.tensor([positions])).logits[0, answer - 1 : -1].float()
    return torch.log_softmax(scores, -1).gather(1, row[0, answer:, None])[:, 0]


def draw_rollouts(model: PreTrainedModel, batch: list[ref.Example], seed: int) -> list[Rollout]:
    """Answers whose old and reference policies lie around the model, so that some ratios are clipped."""
    draw = random.Random(seed)
    rollouts: list[Rollout] = []
    for age, (ids, answer, where, _) in enumerate(batch):
        with torch.no_grad():
            now = logprobs(model, ids, answer, where).tolist()
        advantage = draw.choice([-1.0, 1.0]) * draw.uniform(0.3, 1.5)
        old = [x + draw.gauss(0, 0.3) for x in now]
        reference = [x + draw.gauss(0, 0.3) for x in now]
        rollouts.append((ids, answer, where, [advantage] * len(now), old, reference, age))
    return rollouts


def loss_of(model: PreTrainedModel, rollouts: list[Rollout], name: str) -> torch.Tensor:
    """The loss `name` with its settings in `LOSSES`."""
    settings = LOSSES[name]
    sums, lengths = [], []
    for ids, answer, where, advantages, old, reference, _ in rollouts:
        new = logprobs(model, ids, answer, where)
        advantage, ratio = torch.tensor(advantages), torch.exp(new - torch.tensor(old))
        high = 1 + settings["clip_high"]
        if name == "cispo":
            token = -ratio.clamp(max=high).detach() * advantage * new
        else:
            clipped = ratio.clamp(1 - settings["clip_low"], high)
            token = -torch.minimum(ratio * advantage, clipped * advantage)
        if settings["kl"]:
            apart = torch.tensor(reference) - new
            token = token + settings["kl"] * (apart.exp() - apart - 1)
        sums.append(token.sum())
        lengths.append(len(old))
    if name in ("cispo", "dapo"):
        return sum(sums) / sum(lengths)
    if name == "grpo":
        return sum(s / n for s, n in zip(sums, lengths, strict=True)) / len(sums)
    return sum(sums) / (len(sums) * settings["length"])
