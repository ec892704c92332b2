"""GGUF files of families that llama.cpp names otherwise: each computes what the folder of the same weights computes."""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest
from folders import copied, edited, single, tensors, write_tensors
from gguf_files import gguf, llama
from requests_of import request

from moevolve import _native
from moevolve.errors import CheckpointError

PROMPT = [3, 9, 27, 14, 7, 21, 30, 5, 8, 12]
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.router": "ffn_gate_inp",
}

Numbers = tuple[tuple[int, ...], list[float]]


def transposed(shape: tuple[int, ...], numbers: list[float]) -> Numbers:
    """(experts, inputs, outputs) as (experts, outputs, inputs)."""
    experts, inputs, outputs = shape
    size = inputs * outputs
    at = [(e * size + i * outputs + o) for e in range(experts) for o in range(outputs) for i in range(inputs)]
    return (experts, outputs, inputs), [numbers[place] for place in at]


def turns(shape: tuple[int, ...], numbers: list[float], first: int) -> Numbers:
    """Every other row, or number of a bias, of each expert."""
    experts, rows, *width = shape
    step = width[0] if width else 1
    kept = [
        number
        for e in range(experts)
        for row in range(first, rows, 2)
        for number in numbers[(e * rows + row) * step : (e * rows + row + 1) * step]
    ]
    return (experts, rows // 2, *width), kept


def gpt_oss(folder: Path) -> tuple[dict[str, Any], dict[str, Numbers]]:
    """What llama.cpp's converter makes of a gpt-oss: stacks of experts, gate and up apart, a norm under another name."""
    config = json.loads((folder / "config.json").read_text())
    metadata = {
        "general.architecture": "gpt-oss",
        "gpt-oss.block_count": config["num_hidden_layers"],
        "gpt-oss.context_length": config["max_position_embeddings"],
        "gpt-oss.embedding_length": config["hidden_size"],
        "gpt-oss.feed_forward_length": config["intermediate_size"],
        "gpt-oss.expert_feed_forward_length": config["intermediate_size"],
        "gpt-oss.attention.head_count": config["num_attention_heads"],
        "gpt-oss.attention.head_count_kv": config["num_key_value_heads"],
        "gpt-oss.attention.key_length": config["head_dim"],
        "gpt-oss.attention.value_length": config["head_dim"],
        "gpt-oss.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "gpt-oss.attention.sliding_window": config["sliding_window"],
        "gpt-oss.expert_count": config["num_local_experts"],
        "gpt-oss.expert_used_count": config["num_experts_per_tok"],
        "gpt-oss.rope.freq_base": config["rope_parameters"]["rope_theta"],
    }
    there: dict[str, Numbers] = {}
    for name, (_, shape, data) in tensors(folder / "model.safetensors").items():
        numbers = list(array("f", data))
        if name in WHOLE:
            there[WHOLE[name]] = shape, numbers
            continue
        _, _, layer, rest = name.split(".", 3)
        if rest == "self_attn.sinks":
            there[f"blk.{layer}.attn_sinks.weight"] = shape, numbers
        elif rest.startswith("mlp.experts."):
            part, kind = rest.removeprefix("mlp.experts."), "weight"
            if part.endswith("_bias"):
                part, kind = part.removesuffix("_bias"), "bias"
            else:
                shape, numbers = transposed(shape, numbers)
            if part == "down_proj":
                there[f"blk.{layer}.ffn_down_exps.{kind}"] = shape, numbers
            else:
                for first, word in enumerate(("gate", "up")):
                    there[f"blk.{layer}.ffn_{word}_exps.{kind}"] = turns(shape, numbers, first)
        else:
            stem, kind = rest.rsplit(".", 1)
            there[f"blk.{layer}.{LAYER[stem]}.{kind}"] = shape, numbers
    return metadata, there


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gpt-oss with the clamp that llama.cpp has in its code, and a rotation that both say."""
    made = copied(tmp_path / "folder", "gpt_oss")
    rope = {"rope_type": "default", "rope_theta": 150000.0}
    edited(made / "config.json", rope_parameters=rope, swiglu_limit=7.0)
    single(made)
    return made


@pytest.fixture
def storable(tmp_path: Path, folder: Path) -> Path:
    """The same with heads of sixteen, which can stay as a file has them, as those of every released gpt-oss can."""
    made = tmp_path / "storable"
    config = json.loads((folder / "config.json").read_text()) | {"head_dim": 16}
    _native.Engine.create(json.dumps(config), None, 5, 1).save(made, "f32")
    # New biases and sinks are zero, which would hide mistakes.
    draw = random.Random(5)
    file = made / "model.safetensors"
    named = {
        name: (kind, shape, array("f", (draw.gauss("norm" in name, 0.2) for _ in array("f", data))).tobytes())
        for name, (kind, shape, data) in tensors(file).items()
    }
    write_tensors(file, named)
    return made


@pytest.mark.parametrize("weights", ["trainable", "auto"])
def test_a_gpt_oss_file_computes_what_its_folder_computes(tmp_path, folder, weights):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(*gpt_oss(folder)))
    engine, expected = _native.Engine.load(file, 1, weights), _native.Engine.load(folder, 1)
    config = json.loads(engine.config())
    assert (config["model_type"], config["sliding_window"]) == ("gpt_oss", 6)
    for row, other in zip(
        engine.logits([PROMPT]).tolist()[0], expected.logits([PROMPT]).tolist()[0], strict=True
    ):
        assert row == pytest.approx(other, abs=1e-5)


def test_a_gpt_oss_file_that_stays_stored_computes_and_draws_what_its_folder_does(tmp_path, storable):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(*gpt_oss(storable)))
    engine, expected = _native.Engine.load(file, 1, "stored"), _native.Engine.load(storable, 1)
    # Keys and values are rounded to half precision, as in llama.cpp.
    for row, other in zip(
        engine.logits([PROMPT]).tolist()[0], expected.logits([PROMPT]).tolist()[0], strict=True
    ):
        assert row == pytest.approx(other, abs=0.02)
    (sample,) = engine.generate([request(PROMPT, [0], 12, 0.0)])[0]
    text = PROMPT + sample.tokens
    rows = engine.logits([text]).tolist()[0]
    greedy = [max(range(40), key=rows[at].__getitem__) for at in range(len(PROMPT) - 1, len(text) - 1)]
    assert sample.tokens == greedy and len(greedy) == 12


@pytest.mark.parametrize("change, words", [
    (lambda m, t: t.pop("blk.1.attn_sinks.weight"), ["model.layers.1.self_attn.sinks", "missing"]),
    (lambda m, t: t.pop("blk.0.ffn_up_exps.bias"), ["model.layers.0.mlp.experts.0.up_proj.bias", "missing"]),
    (lambda m, t: m.pop("gpt-oss.attention.sliding_window"), ["gpt-oss.attention.sliding_window", "missing"]),
    (lambda m, t: t.update({"blk.0.ffn_norm.weight": ((24,), [1.0] * 24)}), ["blk.0.ffn_norm.weight", "gpt_oss"]),
    (lambda m, t: t.update({"blk.0.ffn_up_exps.bias": ((4,), [0.0] * 4)}), ["blk.0.ffn_up_exps.bias", "not a stack"]),
    (lambda m, t: m.update({"general.architecture": "qwen35moe"}), ["qwen35moe", "Hugging Face folder"]),
    (lambda m, t: m.update({"general.architecture": "gemma4"}), ["gemma4", "not supported", "gpt-oss", "qwen2"]),
])  # fmt: skip
def test_what_a_gpt_oss_file_lacks_or_has_too_much_is_named(tmp_path, folder, change, words):
    metadata, tensors = gpt_oss(folder)
    change(metadata, tensors)
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    with pytest.raises(CheckpointError) as caught:
        _native.Engine.load(file, 1)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_what_llama_cpp_makes_of_a_qwen2_loads_with_its_biases(tmp_path):
    metadata, tensors = llama()
    metadata = {
        key.replace("llama.", "qwen2.") if key.startswith("llama.") else key: value
        for key, value in metadata.items()
    }
    metadata["general.architecture"] = "qwen2"
    for layer in range(2):
        for part, count in (("q", 64), ("k", 32), ("v", 32)):
            tensors[f"blk.{layer}.attn_{part}.bias"] = (count,), [0.1 * (i % 7 - 3) for i in range(count)]
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    engine = _native.Engine.load(file, 1)
    assert json.loads(engine.config())["model_type"] == "qwen2"
    engine.save(tmp_path / "folder", "f32")
    again = _native.Engine.load(tmp_path / "folder", 1)
    assert again.logits([PROMPT]).tolist() == engine.logits([PROMPT]).tolist()
    again.save(tmp_path / "again.gguf", "f32")
    numbers = tensors["blk.1.attn_q.bias"][1]
    assert struct.pack(f"<{len(numbers)}f", *numbers) in (tmp_path / "again.gguf").read_bytes()


def test_a_family_without_a_place_in_gguf_says_where_it_has_one(tmp_path, folder):
    with pytest.raises(CheckpointError, match="Hugging Face folder alone"):
        _native.Engine.load(folder, 1).save(tmp_path / "model.gguf", "f16")
    assert not (tmp_path / "model.gguf").exists()
