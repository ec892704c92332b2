"""What products in bf16 cost in accuracy, on the shipped seed model: `python benches/precision.py`.

Both sides are our engine; only the rounding of the products' operands differs. Batches are those that the seed was
trained on (`moevolve.seed.examples`), so that weights and data are those of a run.
"""

from __future__ import annotations

import argparse
import math
from array import array

from typing_extensions import Buffer

from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.seed import examples
from moevolve.tasks.suite import suite

RATE = 3e-4


def load(precision: str) -> Engine:
    return Engine.load(seed_checkpoint(), precision=precision)


def floats(tensor: Buffer) -> array[float]:
    values: array[float] = array("f")
    values.frombytes(memoryview(tensor).cast("B"))
    return values


def gap(found: array[float], expected: array[float]) -> tuple[float, float]:
    """Squares of the difference's and of the expected length."""
    pairs = zip(found, expected, strict=True)
    return sum((a - b) ** 2 for a, b in pairs), sum(b * b for b in expected)


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy of bf16 products")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args()
    exact, near = load("f32"), load("bf16")
    tasks = suite("primer")
    batch = examples(tasks, exact, 1, 0)

    (loss, slopes), (near_loss, near_slopes) = exact.gradients(batch), near.gradients(batch)
    gaps = {name: gap(floats(near_slopes[name]), floats(slopes[name])) for name in slopes}
    over_all = math.sqrt(sum(d for d, _ in gaps.values()) / sum(n for _, n in gaps.values()))
    per_tensor = sorted(math.sqrt(d / n) for d, n in gaps.values() if n > 0)
    print(f"loss of a batch: f32 {loss:.6f}, bf16 {near_loss:.6f}")
    print(
        f"gradient, relative error: {over_all:.4f} over all, {per_tensor[len(per_tensor) // 2]:.4f} in the median tensor, "
        f"{per_tensor[-1]:.4f} in the worst"
    )

    rows = [example.tokens for example in batch[:64]]
    differences, sizes, worst = 0.0, 0.0, 0.0
    for ids in rows:
        a, b = floats(near.logits([ids])), floats(exact.logits([ids]))
        d, n = gap(a, b)
        differences, sizes = differences + d, sizes + n
        worst = max(worst, max(abs(x - y) for x, y in zip(a, b, strict=True)))
    print(f"logits: relative error {math.sqrt(differences / sizes):.4f}, largest difference {worst:.3f}")

    drawn = [
        example
        for step in range(1 + options.samples // len(batch))
        for example in examples(tasks, exact, 2, step)
    ]
    drawn = drawn[: options.samples]
    prompts = [example.tokens[: example.start] for example in drawn]
    ours, theirs = (
        [samples.tokens for samples in engine.generate(prompts, max_tokens=40)] for engine in (exact, near)
    )
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"greedy answers: {same} of {len(prompts)} the same")
    right = [example.tokens[example.start : -1] for example in drawn]
    correct = [sum(list(a) == b for a, b in zip(side, right, strict=True)) for side in (ours, theirs)]
    print(f"greedy answers that equal the reference: f32 {correct[0]}, bf16 {correct[1]}")

    for engine in (exact, near):
        engine.reset_optimizer()
    curve = []
    for step in range(options.steps):
        batch = examples(tasks, exact, 3, step)
        curve.append([engine.train(batch, RATE).loss for engine in (exact, near)])
    for end in (10, options.steps // 2, options.steps):
        some = curve[max(0, end - 10) : end]
        means = [sum(pair[i] for pair in some) / len(some) for i in (0, 1)]
        print(f"training loss, mean of the 10 steps to {end}: f32 {means[0]:.5f}, bf16 {means[1]:.5f}")


if __name__ == "__main__":
    main()
