"""Keys of a GGUF file that change what llama.cpp computes are refused by name, unless they say what is computed anyway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_files import gguf, llama

from moevolve import _native
from moevolve.errors import CheckpointError

SWA = "attention.sliding_window_pattern"


def loaded(folder: Path, says: dict[str, Any]) -> _native.Engine:
    """The Llama by hand with these keys under its architecture's name."""
    metadata, tensors = llama()
    metadata |= {f"llama.{key}": value for key, value in says.items()}
    file = folder / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    return _native.Engine.load(file, 1)


def windowed(folder: Path, says: dict[str, Any]) -> _native.Engine:
    """The head of a gpt-oss of four layers with these keys, whose tensors are missing."""
    metadata = {
        "general.architecture": "gpt-oss",
        "gpt-oss.block_count": 4,
        "gpt-oss.context_length": 64,
        "gpt-oss.embedding_length": 32,
        "gpt-oss.feed_forward_length": 32,
        "gpt-oss.attention.head_count": 2,
        "gpt-oss.attention.key_length": 16,
        "gpt-oss.attention.value_length": 16,
        "gpt-oss.attention.layer_norm_rms_epsilon": 1e-5,
        "gpt-oss.attention.sliding_window": 8,
        "gpt-oss.rope.dimension_count": 16,
        "gpt-oss.rope.freq_base": 150000.0,
        "gpt-oss.expert_count": 4,
        "gpt-oss.expert_used_count": 2,
    } | {f"gpt-oss.{key}": value for key, value in says.items()}
    file = folder / "model.gguf"
    file.write_bytes(gguf(metadata, {"token_embd.weight": ((40, 32), [0.5] * 1280)}))
    return _native.Engine.load(file, 1)


@pytest.mark.parametrize(
    "key, value",
    [
        ("attention.causal", False),
        ("nextn_predict_layers", 1),
        ("expert_group_count", 2),
    ],
)
def test_a_key_of_another_network_is_refused_by_name(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=rf"model\.gguf: llama\.{key}: .*not supported"):
        loaded(tmp_path, {key: value})


def test_keys_that_say_what_is_computed_change_nothing(tmp_path):
    ids = [[5, 9, 14, 22]]
    expected = loaded(tmp_path, {}).logits(ids).tolist()
    says = {"attention.causal": True, "nextn_predict_layers": 0, "expert_group_count": 1}
    assert loaded(tmp_path, says).logits(ids).tolist() == expected


@pytest.mark.parametrize(
    "key, value",
    [
        ("attention.causal", False),
        ("expert_group_count", 2),
        ("rope.freq_base_swa", 10000.0),
        ("rope.dimension_count_swa", 8),
        ("attention.key_length_swa", 8),
        ("attention.value_length_swa", 8),
        (SWA, 4),
        (SWA, [0, 1, 0, 1]),
        (SWA, [1, 0, 1]),
        (SWA, [1, 1, 1, 1]),
    ],
)
def test_a_gpt_oss_with_other_windows_is_refused_by_key(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=rf"model\.gguf: gpt-oss\.{key}: .*not supported"):
        windowed(tmp_path, {key: value})


@pytest.mark.parametrize("pattern", [2, [1, 0, 1, 0]])
def test_the_windows_of_a_gpt_oss_may_be_spelt_out(tmp_path, pattern):
    same = {"attention.key_length_swa": 16, "rope.dimension_count_swa": 16, "rope.freq_base_swa": 150000.0}
    # What is wrong then is that the file has no tensors.
    with pytest.raises(CheckpointError, match=r"model\.gguf: its sizes make"):
        windowed(tmp_path, {SWA: pattern, **same})


@pytest.mark.parametrize("key, value", [("yarn_beta_fast", 4.0), ("yarn_beta_slow", 2.0)])
def test_another_blend_of_yarn_is_refused(tmp_path, key, value):
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
    with pytest.raises(CheckpointError, match=rf"llama\.rope\.scaling\.{key}: {value:g}"):
        loaded(tmp_path, yarn | {f"rope.scaling.{key}": value})


def test_the_blend_of_yarn_that_every_file_has_may_be_spelt_out(tmp_path):
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
    expected = loaded(tmp_path, yarn).logits([[5, 9, 14]]).tolist()
    spelt = yarn | {"rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0}
    engine = loaded(tmp_path, spelt)
    assert engine.logits([[5, 9, 14]]).tolist() == expected
    assert json.loads(engine.config())["rope_parameters"]["rope_type"] == "yarn"
    engine.save(tmp_path / "again.gguf", "f32")
    assert b"yarn_beta" not in (tmp_path / "again.gguf").read_bytes()
