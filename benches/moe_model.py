"""A random Qwen3-MoE of a thousand million parameters in Q4_K, ours beside llama.cpp's: the same text, and at what speed.

`python benches/moe_model.py [--require]`, in the parity environment. 10 layers, 1024 wide, 64 experts of 512, of which a
token takes 8; weights are random bits under ordinary scales. Greedy tokens of five prompts must be the same.
`--write FILE` only makes the model, for `figures.py --model FILE`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

from moevolve.models.engine import Engine
from smollm2 import NEW, PROMPT, llama, meets, speeds, theirs, without_amx

LAYERS, HIDDEN, HEADS, KEYS, HEAD, EXPERTS, CHOSEN, INNER, VOCABULARY = 10, 1024, 16, 4, 64, 64, 8, 512, 8192
TARGETS = {"decode": 2.0, "prompt": 2.0}
BLOCK, BYTES = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_K]


def blocks(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix in Q4_K whose bits are random and whose scales are those of weights of .03."""
    rows = draw.integers(0, 256, (*shape[:-1], shape[-1] // BLOCK, BYTES), np.uint8)
    scales = np.array([2e-4, 1.5e-3], np.float16).view(np.uint8)
    rows[..., :4] = scales
    return rows.reshape(*shape[:-1], -1)


def write(file: Path) -> int:
    """Writes the model; returns its number of parameters."""
    writer = gguf.GGUFWriter(file, "qwen3moe")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_expert_feed_forward_length(INNER)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(CHOSEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    draw, count = np.random.default_rng(1), 0
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (VOCABULARY, HIDDEN), "output": (VOCABULARY, HIDDEN), "output_norm": (HIDDEN,),
    }  # fmt: skip
    for layer in range(LAYERS):
        for name, *sizes in (
            ("attn_norm", HIDDEN),
            ("ffn_norm", HIDDEN),
            ("attn_q", HEADS * HEAD, HIDDEN),
            ("attn_k", KEYS * HEAD, HIDDEN),
            ("attn_v", KEYS * HEAD, HIDDEN),
            ("attn_output", HIDDEN, HEADS * HEAD),
            ("attn_q_norm", HEAD),
            ("attn_k_norm", HEAD),
            ("ffn_gate_inp", EXPERTS, HIDDEN),
            ("ffn_gate_exps", EXPERTS, INNER, HIDDEN),
            ("ffn_up_exps", EXPERTS, INNER, HIDDEN),
            ("ffn_down_exps", EXPERTS, HIDDEN, INNER),
        ):
            shapes[f"blk.{layer}.{name}"] = tuple(int(size) for size in sizes)
    for name, shape in shapes.items():
        count += int(np.prod(shape))
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
        elif name.endswith("ffn_gate_inp"):
            writer.add_tensor(f"{name}.weight", draw.standard_normal(shape, np.float32) * np.float32(0.03))
        else:
            kind = gguf.GGMLQuantizationType.Q4_K
            writer.add_tensor(f"{name}.weight", blocks(draw, shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="a random mixture of experts beside llama.cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--require", action="store_true", help="exit 1 when a target is missed, or a text differs"
    )
    parser.add_argument("--write", type=Path, help="only write the model, to this GGUF file")
    options = parser.parse_args()
    if options.write:
        print(f"{write(options.write) / 1e6:,.0f} million parameters: {options.write}")
        return 0
    without_amx()
    draw = np.random.default_rng(2)
    prompts = [draw.integers(0, VOCABULARY, count).tolist() for count in (1, 7, 40, 200, PROMPT)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        count = write(file)
        engine, peer = Engine.load(file, threads=options.threads), llama(file, options.threads)
        print(f"{count / 1e6:,.0f} million parameters, {options.threads} threads, kernels {engine.isa}")
        same = [engine.generate([ids], max_tokens=NEW)[0].tokens == theirs(peer, ids, NEW) for ids in prompts]
        print(f"  the same greedy text for {sum(same)} of {len(same)} prompts")
        met = meets(speeds(engine, peer, prompts[-1]), TARGETS)
    return int(options.require and not (met and all(same)))


if __name__ == "__main__":
    sys.exit(main())
