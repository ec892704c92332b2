"""Writes tests/fixtures/ggml.json: what llama.cpp says and computes with small random models that this engine quantised.

`make fixtures` runs it in the parity environment. A model is its configuration and its seed: the suite makes it again.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp

from moevolve import _native

FILE = Path(__file__).parents[1] / "fixtures" / "ggml.json"
SEED, NEW = 5, 24
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SIZES = {
    "vocab_size": 128, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 256,
    "initializer_range": 0.3, "rms_norm_eps": 1e-6, "eos_token_id": 1, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_local_experts": 8, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
LLAMA3 = ROPE | {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "qwen3": {"tie_word_embeddings": True},
    "qwen3_moe": EXPERTS | {"norm_topk_prob": True},
    "minimax_m2": EXPERTS | {"rotary_dim": 32, "rope_parameters": ROPE | {"partial_rotary_factor": 0.5}},
}
FORMATS = ("q8_0", "q4_0", "q4_k")
# One token, fewer than four, a group of four and some, and many.
PROMPTS = [[7], [3, 99, 12], [5, 4, 3, 2, 9, 8, 7], [(i * i * 7 + 3 * i) % 120 + 2 for i in range(70)]]


def main() -> None:
    cases = []
    for family, more in MODELS.items():
        config = SIZES | {"model_type": family, "rope_parameters": ROPE} | more
        for format in FORMATS:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "model.gguf"
                _native.Engine.create(json.dumps(config), None, SEED, 1).save(file, format)
                llm = llama_cpp.Llama(model_path=str(file), n_ctx=256, n_threads=1, verbose=False)
            said = []
            for ids in PROMPTS:
                llm.reset()
                llm.eval(ids)
                scores = llm._ctx.get_logits_ith(-1)[: config["vocab_size"]]
                bits = struct.pack(f"<{config['vocab_size']}f", *scores)
                llm.reset()
                # Without a tokenizer nothing ends a text.
                tokens = list(itertools.islice(llm.generate(ids, temp=0.0, top_k=1), NEW))
                said.append({"prompt": ids, "logits": base64.b64encode(bits).decode(), "tokens": tokens})
            cases.append({"config": config, "seed": SEED, "format": format, "said": said})
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


if __name__ == "__main__":
    main()
