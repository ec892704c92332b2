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

import llama_cpp

from moevolve import _native
from small_models import wide

FILE = Path(__file__).parents[1] / "fixtures" / "ggml.json"
SEED, NEW = 5, 24
FAMILIES = ("llama", "qwen3", "qwen3_moe", "minimax_m2")
FORMATS = ("q8_0", "q4_0", "q4_k")
# One token, fewer than four, a group of four and some, and many.
PROMPTS = [[7], [3, 99, 12], [5, 4, 3, 2, 9, 8, 7], [(i * i * 7 + 3 * i) % 120 + 2 for i in range(70)]]


def main() -> None:
    cases = []
    for family in FAMILIES:
        config = wide(family)
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
