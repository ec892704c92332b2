"""Greedy generation by the seed model, ours and transformers': `make bench`.

64 prompts of 16 tokens, 32 new tokens each, key-value cache on both sides. transformers runs `generate`
eagerly with SDPA and each of its implementations of the experts. The tokens of our f32 side and theirs must
agree but for ties; the first side rounds products to bf16, as runs do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import measure
from moevolve.protocol.sampling import Sampling, TokenRequest
from seed_model import CONFIG, both, operations, peaks, random_ids, torch

ROWS, LENGTH, NEW, ROUNDS = 64, 16, 32, 15
TARGETS = {1: 5.0, 2: 10.0}
AGREEMENT = 0.95
"""Share of equal samples: a greedy choice between scores that differ by a rounding may fall either way."""


def generator(model: Any, ids: Any) -> Callable[[], Any]:
    model.eval()
    mask = torch.ones_like(ids)

    def generate() -> Any:
        with torch.inference_mode():
            return model.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW, pad_token_id=0
            )

    return generate


def worker(threads: int, rounds: int) -> measure.Measured:
    engines, models = both(threads)
    rows = random_ids(ROWS, LENGTH)
    ids = torch.tensor(rows)
    greedy = Sampling(max_tokens=NEW, temperature=0.0)
    requests = [TokenRequest(row, greedy, [index]) for index, row in enumerate(rows)]
    tokens = {name: [samples.tokens for samples in e.complete(requests)] for name, e in engines.items()}
    expected = tokens["moevolve f32"]
    same = sum(a == b for a, b in zip(tokens["moevolve"], expected, strict=True)) / ROWS
    measure.note(f"  {same:.0%} of the samples in {engines['moevolve'].precision} are those of f32")

    def counted(generate: Callable[[], Any]) -> Callable[[], int]:
        def run() -> int:
            generate()
            return ROWS * NEW

        return run

    sides = {name: counted(partial(engine.complete, requests)) for name, engine in engines.items()}
    for name, model in models.items():
        generate = generator(model, ids)
        theirs = generate()[:, LENGTH:].tolist()
        equal = sum(a == b for a, b in zip(theirs, expected, strict=True)) / ROWS
        assert equal >= AGREEMENT, f"{name} generates other tokens in {1 - equal:.0%} of the samples"
        sides[name] = counted(generate)
    # A prompt's tokens are read too; only the last of them passes the last layer.
    gflop = (operations(CONFIG) * (NEW - 1) + operations(CONFIG, 1 / LENGTH) * LENGTH) / NEW / 1e9
    return measure.rounds(sides, rounds, threads, engines["moevolve"].isa, gflop, peaks(threads))


if __name__ == "__main__":
    sys.exit(measure.bench("greedy generation, batch 64", worker, TARGETS, ROUNDS))
