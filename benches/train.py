"""One training step of the seed model, ours and transformers': `make bench`.

128 sequences of 40 tokens, loss on the last 4 to 12 of each, clipping, AdamW (fused in torch). transformers
runs with SDPA and each of its implementations of the experts: eagerly, and on two threads also compiled. All sides
see the same batch and start from the same weights; the first losses must agree.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import measure
from moevolve.protocol.training import Example
from seed_model import CONFIG, both, operations, peaks, random_ids, torch

ROWS, LENGTH, ROUNDS = 128, 40, 15
RATE = 1e-4
TARGETS = {1: 2.2, 2: 3.0}
MODES = ("default", "max-autotune-no-cudagraphs")


def stepper(model: Any, ids: Any, labels: Any, forward: Any = None) -> Callable[[], int]:
    """A training step of a transformers model, through `forward` if it is compiled."""
    forward = model if forward is None else forward
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        forward(ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return ROWS * LENGTH

    return step


def worker(threads: int, rounds: int) -> measure.Measured:
    engines, models = both(threads)
    rows = random_ids(ROWS, LENGTH)
    starts = [LENGTH - 4 - row % 9 for row in range(ROWS)]
    batch = [Example(tokens=ids, start=start) for ids, start in zip(rows, starts, strict=True)]
    ids = torch.tensor(rows)
    labels = ids.clone()
    for row, start in enumerate(starts):
        labels[row, :start] = -100
    loss, _ = engines["moevolve f32"].gradients(batch)
    for name, model in models.items():
        with torch.no_grad():
            theirs = model(ids, labels=labels).loss.item()
        assert abs(theirs - loss) < 1e-3, f"{name} computes another loss: {theirs} against {loss}"
    for engine in engines.values():
        engine.reset_optimizer()

    def ours(engine: Any) -> int:
        engine.train(batch, RATE)
        return ROWS * LENGTH

    sides: dict[str, Callable[[], int]] = {name: partial(ours, engine) for name, engine in engines.items()}
    sides |= {name: stepper(model, ids, labels) for name, model in models.items()}
    if threads > 1:
        sides |= compiled(models, ids, labels)
    # Forward, and twice as much backward; the last token of a sequence is only predicted.
    read, asked = LENGTH - 1, sum(LENGTH - start for start in starts) / ROWS
    gflop = 3 * operations(CONFIG, asked / read) * read / LENGTH / 1e9
    return measure.rounds(sides, rounds, threads, engines["moevolve"].isa, gflop, peaks(threads))


def compiled(models: dict[str, Any], ids: Any, labels: Any) -> dict[str, Callable[[], int]]:
    """Steps of torch.compile in each mode that compiles, by name."""
    sides = {}
    torch._dynamo.config.recompile_limit = 64
    for name, model in models.items():
        for mode in MODES:
            measure.note(f"  compiling {name}, {mode}")
            twin = copy.deepcopy(model)
            try:
                step = stepper(twin, ids, labels, torch.compile(twin, mode=mode))
                step()
            except Exception as error:  # noqa: BLE001  (whatever its compiler raises: there is no such rival then)
                measure.note(f"  {name} does not compile in mode {mode}: {type(error).__name__}")
                continue
            sides[f"{name} compile {mode}"] = step
    return sides


if __name__ == "__main__":
    sys.exit(measure.bench("training step of the seed model", worker, TARGETS, ROUNDS))
