"""Checkpoints: saved and loaded again under the released names; what is wrong with a bad one, by name."""

from __future__ import annotations

import json
import shutil
import struct
from array import array
from pathlib import Path

import pytest

from moevolve import _native
from moevolve.errors import CheckpointError

GATE = "model.layers.1.block_sparse_moe.gate.weight"


@pytest.fixture
def copy(goldens, tmp_path):
    """A copy of a golden checkpoint that may be broken."""

    def make(name: str = "plain") -> Path:
        return Path(shutil.copytree(goldens[name].checkpoint, tmp_path / name))

    return make


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        _native.Engine.load(str(folder), 1)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert "\n" not in message


def edit_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for key, value in changes.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    file.write_text(json.dumps(config))


# --- there and back


def test_save_and_load_change_nothing(golden, tmp_path, flat):
    engine = golden.load()
    engine.save(str(tmp_path / "copy"))
    again = _native.Engine.load(str(tmp_path / "copy"), 1)
    assert again.fingerprint() == engine.fingerprint()
    ids = golden.expected["ids"][:1]
    assert flat(again.logits(ids)) == flat(engine.logits(ids))
    assert again.has_tokenizer == engine.has_tokenizer
    assert again.eos == engine.eos


def test_saved_names_and_shapes_are_the_released_ones(golden, tmp_path, read_arrays):
    golden.load().save(str(tmp_path / "copy"), "f32")
    saved = read_arrays(tmp_path / "copy" / "model.safetensors")
    assert saved.shapes == golden.tensors
    assert set(saved.dtypes.values()) == {"F32"}


def test_saved_as_bf16(golden, tmp_path, read_arrays):
    golden.load().save(str(tmp_path / "copy"), "bf16")
    saved = read_arrays(tmp_path / "copy" / "model.safetensors")
    matrices = {name: dtype for name, dtype in saved.dtypes.items() if "e_score_correction_bias" not in name}
    assert set(matrices.values()) == {"BF16"}
    again = _native.Engine.load(str(tmp_path / "copy"), 1)
    if golden.name == "text":  # it came as bf16, so nothing is lost
        assert again.fingerprint() == golden.load().fingerprint()


def test_saved_config_keeps_what_transformers_needs(golden, tmp_path):
    golden.load().save(str(tmp_path / "copy"))
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert config["model_type"] == golden.config["model_type"]
    assert config["architectures"] == golden.config["architectures"]
    for key in (
        "vocab_size",
        "hidden_size",
        "head_dim",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "attention_bias",
        "tie_word_embeddings",
        "eos_token_id",
    ):
        assert config.get(key) == golden.config.get(key), key
    assert golden.config["rope_parameters"].items() <= config["rope_parameters"].items()


def test_weights_file_there_and_back(golden, tmp_path):
    engine = golden.load()
    name = engine.write_weights(str(tmp_path / "weights.safetensors"))
    assert name == engine.write_weights(str(tmp_path / "again.safetensors"))
    before = engine.fingerprint()
    engine.reset_optimizer()
    engine.train_step(golden.batch, 1e-2)
    assert engine.fingerprint() != before
    engine.read_weights(str(tmp_path / "weights.safetensors"))
    assert engine.fingerprint() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["again.safetensors", "weights.safetensors"]


def test_read_weights_refuses_another_shape(goldens, tmp_path):
    goldens["odd"].load().write_weights(str(tmp_path / "odd.safetensors"))
    engine = goldens["plain"].load()
    before = engine.fingerprint()
    with pytest.raises(CheckpointError, match=r"model\.|lm_head"):
        engine.read_weights(str(tmp_path / "odd.safetensors"))
    assert engine.fingerprint() == before


def test_create_draws_from_its_seed(goldens):
    config = json.dumps(goldens["plain"].config)
    one, same, other = (_native.Engine.create(config, None, seed, 1) for seed in (1, 1, 2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.parameters == goldens["plain"].load().parameters


def test_legacy_rotary_fields_mean_the_same(goldens, copy, flat, far):
    """Released configurations say rotary_dim and rope_theta; transformers writes rope_parameters."""
    folder = copy()
    edit_config(folder, rope_parameters=None, rotary_dim=4, rope_theta=10000.0)
    ids = goldens["plain"].expected["ids"][:1]
    assert flat(_native.Engine.load(str(folder), 1).logits(ids)) == flat(goldens["plain"].load().logits(ids))


# --- bad ones


def test_no_folder(tmp_path):
    refused(tmp_path / "absent", "absent")


def test_no_config(copy):
    folder = copy()
    (folder / "config.json").unlink()
    refused(folder, "config.json")


def test_no_weights(copy):
    folder = copy()
    (folder / "model.safetensors").unlink()
    refused(folder, "safetensors")


def test_config_that_is_not_json(copy):
    folder = copy()
    (folder / "config.json").write_text('{"model_type": "minimax_m2", ')
    refused(folder, "config.json")


def test_alien_model_type(copy):
    folder = copy()
    edit_config(folder, model_type="gpt2")
    refused(folder, "gpt2", "minimax_m2", "qwen3_moe")


@pytest.mark.parametrize("key", ["hidden_size", "num_local_experts", "vocab_size", "num_hidden_layers"])
def test_a_missing_size_is_named(copy, key):
    folder = copy()
    edit_config(folder, **{key: None})
    refused(folder, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experts_per_tok", 9),
        ("num_key_value_heads", 3),
        ("head_dim", 0),
        ("hidden_size", -4),
        ("num_hidden_layers", "two"),
        ("hidden_act", "gelu"),
    ],
)
def test_an_impossible_size_is_named(copy, key, value):
    folder = copy()
    edit_config(folder, **{key: value})
    refused(folder, key)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_torn_file_is_named(copy, keep):
    folder = copy()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(folder, "model.safetensors")


def test_a_header_that_lies(copy):
    folder = copy()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 2**62) + file.read_bytes()[8:])
    refused(folder, "model.safetensors")


def test_a_missing_tensor_is_named(copy, read_arrays):
    folder = copy()
    read_arrays(folder / "model.safetensors").write(lambda tensors: tensors.pop(GATE))
    refused(folder, GATE)


def test_a_surplus_tensor_is_named(copy, read_arrays):
    folder = copy()

    def add(tensors):
        tensors["model.layers.7.extra.weight"] = ("F32", (2,), bytes(8))

    read_arrays(folder / "model.safetensors").write(add)
    refused(folder, "model.layers.7.extra.weight")


def test_a_misshaped_tensor_is_named(copy, read_arrays):
    folder = copy()

    def turn(tensors):
        dtype, (rows, columns), data = tensors[GATE]
        tensors[GATE] = (dtype, (columns, rows), data)

    read_arrays(folder / "model.safetensors").write(turn)
    refused(folder, GATE, "4", "32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(copy, read_arrays, value):
    folder = copy()

    def poison(tensors):
        dtype, shape, data = tensors[GATE]
        values = array("f", data)
        values[17] = value
        tensors[GATE] = (dtype, shape, values.tobytes())

    read_arrays(folder / "model.safetensors").write(poison)
    refused(folder, GATE)


def test_a_dtype_that_cannot_be_read_is_named(copy, read_arrays):
    folder = copy()

    def retype(tensors):
        _, shape, data = tensors[GATE]
        tensors[GATE] = ("I32", shape, data)

    read_arrays(folder / "model.safetensors").write(retype)
    refused(folder, GATE)


def test_a_missing_shard_is_named(copy):
    folder = copy("text")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors")


def test_an_index_cannot_point_outside(copy):
    folder = copy("text")
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    index["weight_map"]["lm_head.weight"] = "../plain/model.safetensors"
    file.write_text(json.dumps(index))
    refused(folder)


def test_a_tokenizer_that_does_not_match_is_named(copy):
    folder = copy("text")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["§"] = 60
    file.write_text(json.dumps(tokenizer))
    refused(folder, "tokenizer.json", "56")


def test_a_tokenizer_that_is_torn_is_named(copy):
    folder = copy("text")
    file = folder / "tokenizer.json"
    file.write_text(file.read_text()[:200])
    refused(folder, "tokenizer.json")


def test_an_end_token_outside_the_vocabulary_is_named(copy):
    folder = copy("text")
    edit_config(folder, eos_token_id=56)
    if (generation := folder / "generation_config.json").exists():
        generation.write_text(json.dumps({"eos_token_id": 56}))
    refused(folder, "eos_token_id")


def test_saving_into_a_file_is_refused(goldens, tmp_path):
    file = tmp_path / "taken"
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="taken"):
        goldens["plain"].load().save(str(file))
    assert file.read_text() == "mine"
