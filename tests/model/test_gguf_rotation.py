"""What a GGUF file says of its rotation means what it means to llama.cpp, or is refused by its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_files import gguf, llama

from moevolve import _native
from moevolve.errors import CheckpointError


def rotated(folder: Path, says: dict[str, Any]) -> dict[str, Any]:
    """The rotation of the Llama by hand with these keys under `llama.rope`, as its configuration has it."""
    metadata, tensors = llama()
    metadata |= {f"llama.rope.{key}": value for key, value in says.items()}
    file = folder / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    return dict(json.loads(_native.Engine.load(file, 1).config())["rope_parameters"])


@pytest.mark.parametrize(
    "says",
    [
        {"scaling.factor": 4.0},
        {"scale_linear": 4.0},
        {"scaling.type": "linear", "scaling.factor": 4.0},
        {"scaling.type": "linear", "scaling.factor": 4.0, "scale_linear": 2.0},
    ],
)
def test_a_factor_without_a_type_stretches_all_positions_alike(tmp_path, says):
    found = rotated(tmp_path, says)
    assert (found["rope_type"], found["factor"]) == ("linear", 4.0)


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"scaling.factor": 1.0},
        {"scaling.factor": 0.0},
        {"scale_linear": 0.0},
        {"scaling.type": "none", "scaling.factor": 4.0},
        {"scaling.attn_factor": 1.0},
    ],
)
def test_a_factor_that_says_nothing_stretches_nothing(tmp_path, says):
    assert rotated(tmp_path, says)["rope_type"] == "default"


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"scaling.type": "none"},
        {"scaling.factor": 2.0},
        {"scaling.type": "linear", "scaling.factor": 2.0},
    ],
)
def test_a_factor_of_attention_without_yarn_is_refused(tmp_path, says):
    with pytest.raises(CheckpointError, match=r"llama\.rope\.scaling\.attn_factor: 1\.5"):
        rotated(tmp_path, says | {"scaling.attn_factor": 1.5})
