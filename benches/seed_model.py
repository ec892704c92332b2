"""The shipped model's shape with random weights, in the engine and in transformers."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from measure import clock
from moevolve import _native
from moevolve.models.engine import Engine
from moevolve.seed import CONFIG

try:
    import torch
    import transformers
except ImportError:
    sys.exit("this bench needs torch and transformers: run `make bench`")

EXPERTS = ("grouped_mm", "eager")
"""transformers' two CPU implementations of the experts; the faster one is the rival."""


PRECISIONS = {"moevolve": "fastest", "moevolve f32": "f32"}
"""Our sides: products rounded to bf16 where the processor multiplies it faster, which runs use, and exact ones."""


def both(threads: int) -> tuple[dict[str, Engine], dict[str, Any]]:
    """The engine in both precisions, and one transformers model for each implementation, with equal weights."""
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # Without an end token every sample runs to its limit on both sides.
    config = json.dumps(CONFIG | {"eos_token_id": None, "pad_token_id": None})
    engine = Engine.create(config, seed=1, threads=threads)
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        engine.save(folder, dtype="f32")
        for experts in EXPERTS:
            model = transformers.MiniMaxM2ForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa", experts_implementation=experts
            )
            models[f"transformers {experts}"] = model
    engines = {name: engine.clone() for name in PRECISIONS}
    for name, precision in PRECISIONS.items():
        engines[name].precision = precision
    return engines, models


def operations(config: dict[str, Any], asked: float = 1.0) -> float:
    """Floating-point operations of the matrix products of one token forward; `asked` of them pass the last layer."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"] * config["head_dim"]
    keys = 2 * config["num_key_value_heads"] * config["head_dim"]
    experts = 3 * config["num_experts_per_tok"] * config["intermediate_size"] + config["num_local_experts"]
    rest = hidden * (2 * heads + experts)
    layers = config["num_hidden_layers"] - 1
    return 2 * (
        layers * (hidden * keys + rest) + hidden * keys + asked * (rest + hidden * config["vocab_size"])
    )


def random_ids(rows: int, length: int) -> list[list[int]]:
    """Token ids without specials."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(4, int(str(CONFIG["vocab_size"])), (rows, length), generator=generator).tolist()


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of a large product on these threads: torch's in f32 and bf16, and the experts' block of ours."""
    n, rates = 1024, {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        rates[f"torch {str(dtype).removeprefix('torch.')}"] = (
            2 * n**3 / least(partial(torch.matmul, a, b)) / 1e9
        )
    rows, width = 1536, 512
    weights = [torch.randn(count) * 0.05 for count in (width, 1, 2 * width * width, width * width)]
    x = torch.randn(rows, width).numpy()
    for precision in ("f32", "bf16"):
        layer = _native.MoeLayer(
            *(weight.numpy() for weight in weights),
            hidden=width,
            intermediate=width,
            chosen=1,
            precision=precision,
            threads=threads,
        )
        rates[f"ours {precision}"] = 6 * rows * width * width / least(partial(layer.forward, x)) / 1e9
    return rates


def least(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of twenty repetitions."""
    times = []
    for _ in range(20):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)
