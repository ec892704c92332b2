"""The shipped model's shape with random weights, in the engine and in transformers."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from moevolve import _native
from moevolve.seed import CONFIG

try:
    import torch
    import transformers
except ImportError:
    sys.exit("this bench needs torch and transformers: run `make bench`")

EXPERTS = ("grouped_mm", "eager")
"""transformers' two CPU implementations of the experts; the faster one is the rival."""


def both(threads: int) -> tuple[_native.Engine, dict[str, Any]]:
    """The engine, and one transformers model for each implementation of the experts, with equal weights."""
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # Without an end token every sample runs to its limit on both sides.
    engine = _native.Engine.create(
        json.dumps(CONFIG | {"eos_token_id": None, "pad_token_id": None}), None, 1, threads
    )
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        engine.save(folder, "f32")
        for experts in EXPERTS:
            model = transformers.MiniMaxM2ForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa", experts_implementation=experts
            )
            models[f"transformers {experts}"] = model
    return engine, models


def random_ids(rows: int, length: int) -> list[list[int]]:
    """Token ids without specials."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(4, int(CONFIG["vocab_size"]), (rows, length), generator=generator).tolist()
