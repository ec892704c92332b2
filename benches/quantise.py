"""Quantising by us beside llama.cpp's, both sides in one run: `python benches/quantise.py [--layers 18] [--require]`.

A random Llama (2048 wide, 55 million parameters a layer: a thousand million in 18) is written as F16; then each side makes a
Q4_K of that file, on the same threads, in turns. The bytes of every tensor that both have as Q4_K must be the same. Runs in
the parity environment.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

import measure
from moevolve.models.engine import Engine

HIDDEN, INNER, HEADS, KEYS, VOCABULARY = 2048, 7168, 32, 8, 8192


def write(file: Path, layers: int) -> int:
    """A random Llama in F16; returns its number of parameters."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    narrow = KEYS * HIDDEN // HEADS
    matrices = {
        "attn_q": (HIDDEN, HIDDEN), "attn_k": (narrow, HIDDEN), "attn_v": (narrow, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"blk.{layer}.{name}.weight"] = (HIDDEN,)
        shapes |= {f"blk.{layer}.{name}.weight": sizes for name, sizes in matrices.items()}
    for name, shape in shapes.items():
        kind = np.dtype(np.float16 if len(shape) > 1 else np.float32)
        writer.add_tensor_info(name, shape, kind, kind.itemsize * int(np.prod(shape)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    draw = np.random.default_rng(1)
    for shape in shapes.values():
        if len(shape) > 1:
            writer.write_tensor_data((draw.standard_normal(shape, np.float32) * 0.02).astype(np.float16))
        else:
            writer.write_tensor_data(np.ones(shape, np.float32))
    writer.close()
    return sum(int(np.prod(shape)) for shape in shapes.values())


def theirs(source: Path, out: Path, threads: int) -> None:
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread, settings.pure = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S, threads, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), settings):
        raise SystemExit("llama.cpp failed")


def same(ours: Path, other: Path) -> tuple[int, int]:
    """Of the tensors that are Q4_K in both files, how many have the same bytes, and how many there are."""
    q4_k = gguf.GGMLQuantizationType.Q4_K
    found = [
        {t.name: t.data for t in gguf.GGUFReader(file).tensors if t.tensor_type == q4_k}
        for file in (ours, other)
    ]
    both = found[0].keys() & found[1].keys()
    return sum(found[0][name].tobytes() == found[1][name].tobytes() for name in both), len(both)


def main() -> int:
    parser = argparse.ArgumentParser(description="Q4_K by us and by llama.cpp")
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--require", action="store_true", help="exit 1 when we are slower, or bytes differ")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, ours, other = (folder / f"{word}.gguf" for word in ("source", "ours", "other"))
        count = write(source, options.layers)
        engine = Engine.load(source, threads=options.threads, weights="stored")
        sides = (
            lambda: engine.save(ours, dtype="q4_k"),
            lambda: theirs(source, other, options.threads),
        )
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds):
            measure.note(f"  round {number + 1} of {options.rounds}")
            for side, work in zip(times, sides, strict=True):
                begun = time.perf_counter()
                work()
                side.append(time.perf_counter() - begun)
        measure.note("")
        equal, both = same(ours, other)
    a, b = (min(side) for side in times)
    print(
        f"Q4_K of {count / 1e6:,.0f} million parameters on {options.threads} threads: "
        f"{a:.1f} s beside {b:.1f} s of llama.cpp"
    )
    print(f"  {b / a:.2f}x, and the same bytes in {equal} of {both} tensors")
    return int(options.require and (a > b or equal < both))


if __name__ == "__main__":
    sys.exit(main())
