"""Quantising by us beside llama.cpp's, both sides in one run: `python benches/quantise.py [--layers 4] [--require]`.

A random Llama (2048 wide, 55 million parameters a layer) is written as F16; then each side makes a Q4_K of that file, on the
same threads, in turns. The bytes of every tensor that both have as Q4_K must be the same. Runs in the parity environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import gguf
import llama_cpp

import measure
from moevolve.models.engine import Engine

ROUNDS = 3


def config(layers: int) -> str:
    return json.dumps({
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 2048, "intermediate_size": 7168,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "tie_word_embeddings": True,
    })  # fmt: skip


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
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--require", action="store_true", help="exit 1 when we are slower, or bytes differ")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, ours, other = (folder / f"{word}.gguf" for word in ("source", "ours", "other"))
        made = Engine.create(config(options.layers), threads=options.threads)
        made.save(source, dtype="f16")
        count = made.parameters
        del made
        engine = Engine.load(source, threads=options.threads, weights="stored")
        sides = (
            lambda: engine.save(ours, dtype="q4_k"),
            lambda: theirs(source, other, options.threads),
        )
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS):
            measure.note(f"  round {number + 1} of {ROUNDS}")
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
