"""Makes the seed checkpoint that the wheel carries: `python -m moevolve.seed`.

A small MiniMax-M2 decoder learns the primer suite from its own generators: levels 1-8 in geometric shares, train split
only, so that it is sure of short tasks, unsure of the longest it saw, and lost soon beyond. That tail is what a run
works with. This is the one place where gold answers are trained on; a run never does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

from moevolve.models.engine import Engine
from moevolve.models.positions import training_positions
from moevolve.models.tokenizer import EOS, VOCABULARY, character_tokenizer
from moevolve.protocol.training import Example
from moevolve.randomness import rng
from moevolve.tasks.suite import Suite, suite

LEVELS = 8
RATIO = 0.62
"""Share of level l is proportional to RATIO ** (l - 1)."""
EMPHASIS = {"number/add": 4.0, "number/subtract": 4.0, "number/compare": 2.0}
"""Shares of skills that take longest to begin: a skill that never succeeds gives a run nothing to confirm."""
BATCH = 128
STEPS = 1600
PEAK_RATE = 3e-3
WARM_UP = 60
SEED_FOLDER = Path(__file__).parent / "models" / "seed"


CONFIG = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "model_type": "minimax_m2",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rotary_dim": 16,
    "rope_theta": 10000.0,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "scoring_func": "sigmoid",
    "use_routing_bias": True,
    "use_qk_norm": True,
    "qk_norm_type": "per_layer",
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": 0,
    "initializer_range": 0.06,
    "torch_dtype": "float32",
}


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, steps - WARM_UP)
    return PEAK_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def examples(tasks: Suite, engine: Engine, seed: int, step: int) -> list[Example]:
    """One batch, an example a task."""
    draw = rng(seed, "seed", step)
    paths = sorted(tasks.skills)
    skill_shares = [EMPHASIS.get(path, 1.0) for path in paths]
    shares = [RATIO**level for level in range(LEVELS)]
    batch: list[Example] = []
    for index in range(BATCH):
        path = draw.choices(paths, skill_shares)[0]
        level = draw.choices(range(1, LEVELS + 1), shares)[0]
        task = tasks.draw("train", path, level, seed, step, index)
        prompt = engine.encode(task.prompt, whole=False)
        tokens = prompt + engine.encode(task.answer or "", whole=False) + [EOS]
        positions = training_positions(len(tokens), draw)
        batch.append(Example(tokens=tokens, start=len(prompt), positions=positions))
    return batch


def by_level(tasks: Suite, engine: Engine, seed: int, each: int) -> dict[str, list[float]]:
    """Greedy success on the dev split: skill -> success at levels 1 to 16."""
    cells = [(path, level) for path in sorted(tasks.skills) for level in range(1, 17) for _ in range(each)]
    drawn = [tasks.draw("dev", path, level, seed, "seed", i) for i, (path, level) in enumerate(cells)]
    answers = engine.generate([task.prompt for task in drawn], max_tokens=40)
    success: dict[str, list[float]] = {path: [0.0] * 16 for path in tasks.skills}
    for task, answer in zip(drawn, answers, strict=True):
        success[task.skill][task.level - 1] += tasks.grade(task, answer.text).success / each
    return success


def mean(success: dict[str, list[float]], levels: int) -> float:
    """Mean success over skills at levels 1 to `levels`."""
    return sum(sum(row[:levels]) / levels for row in success.values()) / len(success)


def make(out: Path, *, seed: int, steps: int, threads: int) -> None:
    """Trains the checkpoint, saves it as bf16 in `out`, and prints its success by skill and level."""
    tasks = suite("primer")
    engine = Engine.create(json.dumps(CONFIG), character_tokenizer(), seed=seed, threads=threads)
    engine.reset_optimizer(bias_rate=1e-3)
    started = time.monotonic()
    seen = 0
    for step in range(steps):
        report = engine.train(examples(tasks, engine, seed, step), learning_rate(step, steps))
        seen += report.tokens
        if step % 50 == 49 or step + 1 == steps:
            took = time.monotonic() - started
            left = took / (step + 1) * (steps - step - 1)
            print(
                f"step {step + 1}/{steps}  loss {report.loss:.4f}  {took:.0f} s, {left:.0f} s left",
                file=sys.stderr,
            )
        if step % 500 == 499:
            success = by_level(tasks, engine, seed, 4)
            print(f"  levels 1-12 {mean(success, 12):.3f}  1-16 {mean(success, 16):.3f}", file=sys.stderr)
    engine.save(out, dtype="bf16")
    success = by_level(tasks, Engine.load(out, threads=threads), seed, 16)
    for path, row in success.items():
        print(f"{path:24}" + " ".join(f"{value:.2f}" for value in row))
    print(f"levels 1-12: {mean(success, 12):.3f}   levels 1-16: {mean(success, 16):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m moevolve.seed", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SEED_FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    make(options.out, seed=options.seed, steps=options.steps, threads=options.threads)


if __name__ == "__main__":
    main()
