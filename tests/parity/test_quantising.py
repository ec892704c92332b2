"""Bytes of our quantisers beside ggml's, block by block, of numbers as no trained model has them: `make parity`."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from random import Random

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs llama-cpp-python: run `make parity`", allow_module_level=True)

import gguf
import llama_cpp
import numpy as np

from moevolve import _native
from small_models import PLAIN, SIZES

SEEDS = [int(seed) for seed in os.environ["MOEVOLVE_PARITY"].split(",") if seed] or [1]
ROWS, WIDTH, PART = 4096, 256, 32
TYPES = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k": "Q4_K", "f16": "F16", "bf16": "BF16"}
BASE = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
BASE.ggml_quantize_chunk.argtypes = [
    ctypes.c_int,
    *[ctypes.c_void_p] * 2,
    *[ctypes.c_int64] * 3,
    ctypes.c_void_p,
]
BASE.ggml_quantize_chunk.restype = ctypes.c_size_t
LARGEST = 6e4
"""What f16 holds; scales beyond it have no bytes."""


def theirs(kind: gguf.GGMLQuantizationType, values: np.ndarray) -> bytes:
    """ggml's bytes of rows of a matrix."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(values.size // block * size, np.uint8)
    BASE.ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, *values.shape, None)
    return out.tobytes()


def scale(random: Random) -> float:
    """A power of two from the smallest denormal on, most of them ordinary."""
    return 2.0 ** (random.uniform(-149, 10) if random.random() < 0.5 else random.uniform(-12, 2))


def part(random: Random) -> list[float]:
    """32 numbers of one odd kind."""
    size, sign = scale(random), random.choice((1.0, -1.0))
    kind = random.randrange(12)
    draw = random.gauss
    if kind == 0:
        return [0.0] * PART
    if kind == 1:
        return [sign * size] * PART
    if kind == 2:
        return [sign * 0.0 if random.random() < 0.5 else 0.0 for _ in range(PART)]
    if kind == 3:  # An outlier.
        numbers = [draw(0.0, size) for _ in range(PART)]
        numbers[random.randrange(PART)] = sign * size * 2.0 ** random.randrange(30)
        return numbers
    if kind == 4:  # A constant, and little beside it.
        little = size * 2.0 ** -random.randrange(1, 28)
        return [sign * size + draw(0.0, little) for _ in range(PART)]
    if kind == 5:  # Two values.
        other = size * random.choice((-1.0, 0.0, 0.5, 2.0))
        return [random.choice((sign * size, other)) for _ in range(PART)]
    if kind == 6:  # Steps of a grid, where halves are rounded.
        step = size / random.choice((1, 2, 15, 30, 31, 63, 127, 254))
        return [step * random.randrange(-128, 129) for _ in range(PART)]
    if kind == 7:  # One sign.
        return [sign * abs(draw(0.0, size)) for _ in range(PART)]
    if kind == 8:  # Every number of a size of its own.
        return [random.choice((1.0, -1.0)) * scale(random) for _ in range(PART)]
    if kind == 9:  # Few that are not zero.
        return [draw(0.0, size) if random.random() < 0.1 else 0.0 for _ in range(PART)]
    if kind == 10:  # Denormals and their neighbours.
        return [random.choice((1.0, -1.0)) * 2.0 ** random.uniform(-149, -120) for _ in range(PART)]
    return [draw(sign * size, size) for _ in range(PART)]


def row(random: Random) -> list[float]:
    """Parts of one kind or of many, side by side in a block of 256."""
    if random.random() < 0.3:
        state = random.getstate()
        first = part(random)
        repeats = []
        for _ in range(WIDTH // PART):
            random.setstate(state)
            repeats += part(random) if random.random() < 0.5 else first
        random.seed(repr(first))
        return repeats
    return [number for _ in range(WIDTH // PART) for number in part(random)]


def odd(seed: int) -> np.ndarray:
    random = Random(seed)
    values = np.array([row(random) for _ in range(ROWS)], np.float64)
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def model(folder: Path, values: np.ndarray) -> Path:
    """A folder of a Llama whose embedding has these rows; the rest of it is nothing that could hide a wrong byte."""
    config = SIZES | {
        "model_type": "llama", "vocab_size": ROWS, "hidden_size": WIDTH, "intermediate_size": WIDTH,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
        "rope_parameters": PLAIN,
    }  # fmt: skip
    _native.Engine.create(json.dumps(config), None, 1, 1).save(folder, "f32")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = values
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TYPES)
def test_odd_numbers_have_ggml_s_bytes(tmp_path, name, seed):
    values = odd(seed)
    engine = _native.Engine.load(model(tmp_path / "model", values), 2)
    file = tmp_path / "model.gguf"
    engine.save(file, name)
    kind = gguf.GGMLQuantizationType[TYPES[name]]
    (tensor,) = (t for t in gguf.GGUFReader(file).tensors if t.name == "token_embd.weight")
    assert tensor.tensor_type == kind
    ours, expected = tensor.data.tobytes(), theirs(kind, values)
    assert len(ours) == len(expected)
    each = len(ours) // ROWS
    apart = [at for at in range(ROWS) if ours[at * each :][:each] != expected[at * each :][:each]]
    assert not apart, (len(apart), apart[0], values[apart[0]].tolist(), ours[apart[0] * each :][:each].hex())
