"""One training step of the seed model, ours and transformers': `make bench`.

128 sequences of 40 tokens, loss on the last 4 to 12 of each, clipping, AdamW (fused in torch). transformers
runs eagerly with SDPA and each of its implementations of the experts. Both sides see the same batch and start
from the same weights; their first losses must agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import measure
from seed_model import both, random_ids, torch

ROWS, LENGTH, ROUNDS = 128, 40, 15
RATE = 1e-4
TARGETS = {1: 1.5, 2: 2.0}


def stepper(model: Any, ids: Any, labels: Any) -> Callable[[], int]:
    """A training step of a transformers model."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        model(ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return ROWS * LENGTH

    return step


def worker(threads: int, rounds: int) -> measure.Measured:
    engine, models = both(threads)
    rows = random_ids(ROWS, LENGTH)
    starts = [LENGTH - 4 - row % 9 for row in range(ROWS)]
    batch = [(ids, start, 0, 1.0) for ids, start in zip(rows, starts, strict=True)]
    ids = torch.tensor(rows)
    labels = ids.clone()
    for row, start in enumerate(starts):
        labels[row, :start] = -100
    loss, _ = engine.gradients(batch)
    for name, model in models.items():
        with torch.no_grad():
            theirs = model(ids, labels=labels).loss.item()
        assert abs(theirs - loss) < 1e-3, f"{name} computes another loss: {theirs} against {loss}"
    engine.reset_optimizer()

    def ours() -> int:
        engine.train_step(batch, RATE)
        return ROWS * LENGTH

    sides = {"moevolve": ours} | {name: stepper(model, ids, labels) for name, model in models.items()}
    return measure.rounds(sides, rounds, threads, engine.isa)


if __name__ == "__main__":
    sys.exit(measure.bench("training step of the seed model", worker, TARGETS, ROUNDS))
