"""Checkpoints as each family ships them: FP8 blocks, half precision, tensors that are left unread, what is refused."""

from __future__ import annotations

import json
import shutil
import struct
from array import array
from pathlib import Path

import pytest
from requests_of import request

from moevolve import _native
from moevolve.errors import CheckpointError

GATE = "model.layers.0.block_sparse_moe.gate.weight"
UP = "model.layers.0.block_sparse_moe.experts.1.w3.weight"


@pytest.fixture
def copy(fp8, goldens, tmp_path):
    """A copy of a golden checkpoint that may be broken."""

    def make(name: str) -> Path:
        source = fp8 if name == "fp8" else goldens[name]
        return Path(shutil.copytree(source.checkpoint, tmp_path / name))

    return make


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        _native.Engine.load(str(folder), 1)
    for word in words:
        assert word in str(caught.value), caught.value


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# --- FP8 blocks


def test_fp8_logits_agree_with_transformers(fp8, flat, far):
    engine = fp8.load()
    ids = fp8.expected["ids"]
    for row, tokens in enumerate(ids):
        assert far(flat(engine.logits([tokens])), fp8.arrays[f"logits.{row}"]) < 1e-3


def test_fp8_continues_as_transformers(fp8):
    samples = fp8.load().generate([request(prompt, [0], 12, 0.0) for prompt in fp8.expected["prompts"]])
    assert [sample.tokens for (sample,) in samples] == fp8.expected["generations"]


def test_fp8_is_saved_without_its_quantisation(fp8, tmp_path, flat, far, read_arrays):
    engine = fp8.load()
    ids = fp8.expected["ids"][:1]
    engine.save(str(tmp_path / "wide"), "f32")
    wide = _native.Engine.load(str(tmp_path / "wide"), 1)
    assert far(flat(wide.logits(ids)), flat(engine.logits(ids))) < 1e-3
    engine.save(str(tmp_path / "same"))
    config = json.loads((tmp_path / "same" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    saved = read_arrays(tmp_path / "same" / "model.safetensors")
    assert not [name for name in saved if name.endswith("_scale_inv")]
    assert set(saved.dtypes.values()) == {"BF16", "F32"}


def test_scales_that_are_missing_or_wrong_are_named(copy, read_arrays):
    name = UP + "_scale_inv"

    def change(value):
        folder = copy("fp8")

        def put(tensors):
            tensors.pop(name)
            if value is not None:
                tensors[name] = value

        read_arrays(folder / "model.safetensors").write(put)
        return folder

    for value in (
        None,
        ("F32", (1, 3), bytes(12)),
        ("F32", (2, 1), bytes(8)),
        ("F32", (1, 2), array("f", [1.0, float("nan")]).tobytes()),
    ):
        folder = change(value)
        refused(folder, UP, "model.safetensors")
        shutil.rmtree(folder)


def test_scales_of_a_matrix_that_is_not_fp8_are_named(copy, read_arrays):
    folder = copy("fp8")

    def add(tensors):
        tensors[GATE + "_scale_inv"] = ("F32", (1, 2), bytes(8))

    read_arrays(folder / "model.safetensors").write(add)
    refused(folder, GATE + "_scale_inv")


def test_an_fp8_number_that_is_not_one_is_named(copy, read_arrays):
    folder = copy("fp8")

    def poison(tensors):
        dtype, shape, data = tensors[UP]
        tensors[UP] = (dtype, shape, data[:100] + b"\x7f" + data[101:])

    read_arrays(folder / "model.safetensors").write(poison)
    refused(folder, UP, "100")


# --- MXFP4 experts


@pytest.mark.parametrize("weights", ["stored", "trainable"])
def test_mxfp4_experts_say_what_transformers_says(mxfp4, weights, flat, far):
    engine = _native.Engine.load(str(mxfp4.checkpoint), 1, weights)
    for row, tokens in enumerate(mxfp4.expected["ids"]):
        assert far(flat(engine.logits([tokens])), mxfp4.arrays[f"logits.{row}"]) < 1e-4
    samples = engine.generate([request(prompt, [0], 12, 0.0) for prompt in mxfp4.expected["prompts"]])
    assert [sample.tokens for (sample,) in samples] == mxfp4.expected["generations"]


def test_mxfp4_is_saved_as_the_numbers_that_it_means(mxfp4, tmp_path, read_arrays):
    engine = mxfp4.load()
    engine.save(str(tmp_path / "plain"))
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert "quantization_config" not in config
    saved = read_arrays(tmp_path / "plain" / "model.safetensors")
    assert set(saved.dtypes.values()) == {"BF16"}
    assert saved.shapes["model.layers.0.mlp.experts.gate_up_proj"] == (4, 64, 64)
    assert saved.shapes["model.layers.0.mlp.experts.down_proj_bias"] == (4, 64)
    assert _native.Engine.load(str(tmp_path / "plain"), 1).fingerprint() == engine.fingerprint()


def test_mxfp4_parts_that_are_missing_or_wrong_are_named(mxfp4, tmp_path, read_arrays):
    name = "model.layers.1.mlp.experts.down_proj"
    saved = read_arrays(mxfp4.checkpoint / "model.safetensors")
    assert saved.shapes[f"{name}_blocks"] == (4, 64, 1, 16)
    stranger = "model.layers.7.mlp.experts.down_proj_blocks"
    for case, (change, words) in enumerate(
        [
            (lambda t: t.pop(f"{name}_scales"), (f"{name}_scales", "missing")),
            (lambda t: t.pop(f"{name}_blocks"), (name,)),
            (lambda t: t.pop(f"{name}_bias"), (f"{name}_bias", "missing")),
            (lambda t: t.update({f"{name}_scales": ("U8", (4, 64, 2), bytes(512))}), (f"{name}_scales",)),
            (lambda t: t.update({f"{name}_scales": ("U8", (4, 64, 1), b"\xff" * 256)}), ("down_proj", "NaN")),
            (lambda t: t.update({stranger: ("U8", (1,), b"0")}), (stranger,)),
            (lambda t: t.update({"model.norm.bytes": ("U8", (1,), b"0")}), ("model.norm.bytes", "U8")),
        ]
    ):
        folder = Path(shutil.copytree(mxfp4.checkpoint, tmp_path / str(case)))
        read_arrays(folder / "model.safetensors").write(change)
        refused(folder, *words)


# --- a language model beside one of images


def test_a_wrapped_language_model_is_read_without_its_images(goldens, copy, read_arrays):
    folder = copy("qwen3_5_moe")
    inner = json.loads((folder / "config.json").read_text())
    wrapped = {
        "model_type": "qwen3_5_moe",
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "tie_word_embeddings": False,
        "text_config": inner,
        "vision_config": {"model_type": "qwen3_5_moe_vision", "depth": 2},
    }
    (folder / "config.json").write_text(json.dumps(wrapped))

    def wrap(tensors):
        for name in list(tensors):
            if name.startswith("model."):
                tensors[name.replace("model.", "model.language_model.", 1)] = tensors.pop(name)
        tensors["model.visual.patch_embed.proj.weight"] = ("F32", (2,), bytes(8))
        tensors["mtp.norm.weight"] = ("F32", (2,), bytes(8))

    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    whole: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        arrays = read_arrays(file)
        arrays.write(whole.update)
        last = file
    for file in folder.glob("*.safetensors"):
        if file != last:
            file.unlink()
    read_arrays(last).write(lambda tensors: (tensors.update(whole), wrap(tensors)))
    last.rename(folder / "model.safetensors")
    engine = _native.Engine.load(str(folder), 1)
    assert engine.fingerprint() == goldens["qwen3_5_moe"].load().fingerprint()
    assert json.loads(engine.config())["model_type"] == "qwen3_5_moe_text"


# --- half precision


def test_f16_is_read(goldens, copy, read_arrays, flat, far):
    folder = copy("qwen3")

    def halve(tensors):
        for name, (_, shape, data) in tensors.items():
            values = array("f", data)
            tensors[name] = ("F16", shape, struct.pack(f"<{len(values)}e", *values))

    read_arrays(folder / "model.safetensors").write(halve)
    ids = goldens["qwen3"].expected["ids"][:1]
    ours, exact = _native.Engine.load(str(folder), 1), goldens["qwen3"].load()
    assert 0 < far(flat(ours.logits(ids)), flat(exact.logits(ids))) < 0.1
    # Nothing more is lost by saving it as it came.
    ours.save(str(folder / "again"))
    saved = read_arrays(folder / "again" / "model.safetensors")
    assert set(saved.dtypes.values()) == {"F16"}
    assert json.loads((folder / "again" / "config.json").read_text())["dtype"] == "float16"
    assert _native.Engine.load(str(folder / "again"), 1).fingerprint() == ours.fingerprint()


def test_a_number_that_f16_cannot_hold_is_named(goldens, copy, read_arrays, tmp_path):
    folder = copy("qwen3")

    def grow(tensors):
        dtype, shape, data = tensors["model.norm.weight"]
        values = array("f", data)
        values[3] = 1e5
        tensors["model.norm.weight"] = (dtype, shape, values.tobytes())

    read_arrays(folder / "model.safetensors").write(grow)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*100000"):
        _native.Engine.load(str(folder), 1).save(str(tmp_path / "half"), "f16")


# --- left unread


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", {}),
        ("model.layers.2.enorm.weight", {"use_mtp": True, "num_mtp_modules": 3}),
        ("model.layers.4.self_attn.q_proj.weight", {"use_mtp": True, "num_mtp_modules": 3}),
        ("mtp.0.norm.weight", {}),
    ],
)
def test_what_no_answer_needs_is_left_unread(goldens, copy, read_arrays, name, changes):
    folder = copy("plain")
    edit(folder, **changes)

    def add(tensors):
        tensors[name] = ("F32", (2,), bytes(8))

    read_arrays(folder / "model.safetensors").write(add)
    engine = _native.Engine.load(str(folder), 1)
    assert engine.fingerprint() == goldens["plain"].load().fingerprint()


def test_modules_that_the_configuration_promises_may_be_absent(goldens, copy):
    folder = copy("plain")
    edit(folder, use_mtp=True, num_mtp_modules=3, mtp_transformer_layers=1)
    assert _native.Engine.load(str(folder), 1).fingerprint() == goldens["plain"].load().fingerprint()


def test_a_layer_too_many_is_named(copy, read_arrays):
    folder = copy("plain")
    edit(folder, use_mtp=True, num_mtp_modules=1)

    def add(tensors):
        tensors["model.layers.3.enorm.weight"] = ("F32", (2,), bytes(8))

    read_arrays(folder / "model.safetensors").write(add)
    refused(folder, "model.layers.3.enorm.weight")


def test_a_tied_model_needs_no_head_and_ignores_one(goldens, copy, read_arrays):
    folder = copy("llama")

    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    assert "lm_head.weight" not in goldens["llama"].tensors
    read_arrays(folder / "model.safetensors").write(add)
    engine = _native.Engine.load(str(folder), 1)
    assert engine.fingerprint() == goldens["llama"].load().fingerprint()


def test_a_head_that_is_absent_and_not_spoken_of_is_the_embedding(goldens, copy, read_arrays):
    folder = copy("qwen3")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("tie_word_embeddings") is False
    read_arrays(folder / "model.safetensors").write(lambda tensors: tensors.pop("lm_head.weight"))
    refused(folder, "lm_head.weight")
    file.write_text(json.dumps(config))
    engine = _native.Engine.load(str(folder), 1)
    assert engine.parameters < goldens["qwen3"].load().parameters
    assert json.loads(engine.config())["tie_word_embeddings"] is True


# --- refused


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"rope_parameters": {"rope_type": "longrope"}}, "rope_type"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, "mlp_only_layers"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step"),
        ("olmoe", {"sliding_window": 16}, "sliding_window"),
        ("gpt_oss", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types"),
        ("llama", {"quantization_config": {"quant_method": "mxfp4"}}, "quantization_config"),
        ("plain", {"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
    ],
)
def test_what_is_not_built_is_refused_by_name(copy, name, changes, key):
    folder = copy(name)
    edit(folder, **changes)
    refused(folder, "config.json", key)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.layers.1.self_attn.k_proj.bias"),
        ("qwen3_moe", "model.layers.0.mlp.experts.2.up_proj.weight"),
        ("qwen3", "model.layers.1.self_attn.q_norm.weight"),
        ("olmoe", "model.layers.1.mlp.gate.weight"),
        ("qwen2", "model.layers.1.self_attn.k_proj.bias"),
    ],
)
def test_a_missing_tensor_of_a_family_is_named(copy, read_arrays, name, tensor):
    folder = copy(name)
    read_arrays(folder / "model.safetensors").write(lambda tensors: tensors.pop(tensor))
    refused(folder, tensor)


def test_biases_that_the_configuration_denies_are_named(copy):
    folder = copy("llama")
    edit(folder, attention_bias=False)
    refused(folder, "_proj.bias")
