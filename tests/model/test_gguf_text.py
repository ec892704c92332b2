"""The text side of GGUF files: ends, special tokens and what stands around a text are what llama.cpp has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_files import gguf, llama

import moevolve
from moevolve import _native
from moevolve.errors import CheckpointError

SEED = Path(moevolve.__file__).parent / "models" / "seed"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def loaded(folder: Path, changes: dict[int, tuple[str, int]], **more: Any) -> _native.Engine:
    """The Llama by hand with other tokens at these ids, and more metadata under `tokenizer.ggml`."""
    metadata, tensors = llama()
    for token, (text, kind) in changes.items():
        metadata["tokenizer.ggml.tokens"][token] = text
        metadata["tokenizer.ggml.token_type"][token] = kind
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in more.items()}
    file = folder / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    return _native.Engine.load(file, 1)


@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<|eot_id|>", "<eos>", "_<EOT>", "<|call|>", "[e~[", "<|fim_pad|>"]
)
def test_a_token_that_ends_turns_does_so_whatever_its_type(tmp_path, end, kind):
    engine = loaded(tmp_path, {35: (end, kind)})
    assert engine.eos == [38, 35]
    assert engine.encode(f"a{end}") == [0, 35]
    assert engine.decode([0, 35]) == "a"


def test_the_end_of_a_message_is_no_end_where_calls_and_returns_are(tmp_path):
    names = {33: ("<|end|>", CONTROL), 34: ("<|return|>", CONTROL), 35: ("<|call|>", CONTROL)}
    engine = loaded(tmp_path, names)
    assert engine.eos == [38, 34, 35]
    assert engine.encode("a<|end|>") == [0, 33]
    assert engine.decode([0, 33]) == "a<|end|>"


def test_tokens_around_a_gap_are_one_token_each_and_no_ends(tmp_path):
    engine = loaded(tmp_path, {35: ("<|fim_prefix|>", NORMAL)})
    assert engine.eos == [38]
    assert engine.encode("<|fim_prefix|>b") == [35, 1]


def test_the_unknown_token_in_a_text_is_one_token(tmp_path):
    engine = loaded(tmp_path, {35: ("<unk>", UNKNOWN)})
    assert engine.encode("a<unk>b") == [0, 35, 1]


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_a_file_says_what_stands_around_each_text(tmp_path, begin, end):
    engine = loaded(tmp_path, {}, add_bos_token=begin, add_eos_token=end, bos_token_id=37)
    expected = [37] * begin + [0] + [38] * end
    assert engine.encode("a", True) == expected
    engine.save(tmp_path / "again.gguf", "f32")
    assert _native.Engine.load(tmp_path / "again.gguf", 1).encode("a", True) == expected


def processors(single: list[str], nested: bool) -> dict[str, Any]:
    """A post-processor that writes these tokens around a text `$A`, by itself or behind another as Llama 3 has it."""
    ids = {"<s>": 37, "</s>": 38, "ab": 36}
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if name == "$A"
        else {"SpecialToken": {"id": name, "type_id": 0}}
        for name in single
    ]
    special = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in single if name != "$A"}
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}
    template["pair"] = [*pieces, {"Sequence": {"id": "B", "type_id": 1}}]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return {"type": "Sequence", "processors": [level, template]} if nested else template


def folder_with(folder: Path, single: list[str], nested: bool) -> _native.Engine:
    """The Llama by hand as a folder whose tokenizer has that post-processor."""
    loaded(folder, {}).save(folder / "model", "f32")
    file = folder / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["post_processor"] = processors(single, nested)
    file.write_text(json.dumps(tokenizer))
    return _native.Engine.load(folder / "model", 1)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("single", [["<s>", "$A"], ["$A", "</s>"], ["<s>", "$A", "</s>"], ["$A"]])
def test_what_a_folder_puts_around_a_text_its_file_puts_there_too(tmp_path, single, nested):
    engine = folder_with(tmp_path, single, nested)
    engine.save(tmp_path / "written.gguf", "f32")
    written = _native.Engine.load(tmp_path / "written.gguf", 1)
    for text in ["a", "abc d"]:
        assert written.encode(text, True) == engine.encode(text, True)


@pytest.mark.parametrize("single", [["<s>", "ab", "$A"], ["$A", "</s>", "</s>"]])
def test_what_no_file_can_say_of_a_text_is_refused_on_export(tmp_path, single):
    engine = folder_with(tmp_path, single, False)
    with pytest.raises(CheckpointError, match="a text, and llama.cpp's files say"):
        engine.save(tmp_path / "written.gguf", "f32")
    assert not (tmp_path / "written.gguf").exists()


@pytest.mark.parametrize(
    "rope, word",
    [
        ({"rope_type": "yarn", "factor": 4.0, "mscale": 0.6, "mscale_all_dim": 1.0}, "attention_factor"),
        ({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.0}, "attention_factor"),
        ({"rope_type": "yarn", "factor": 4.0, "truncate": False}, "truncate"),
        ({"rope_type": "yarn", "factor": 4.0, "beta_fast": 4.0}, "beta_fast 32 .* not 4 and 1"),
        ({"rope_type": "yarn", "factor": 4.0, "beta_slow": 2.0}, "beta_slow 1 .* not 32 and 2"),
    ],
)
def test_a_rotation_that_no_file_can_say_is_refused_on_export(tmp_path, rope, word):
    config = json.loads((SEED / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 10000.0, "original_max_position_embeddings": 64} | rope
    engine = _native.Engine.create(json.dumps(config), None, 1, 1)
    with pytest.raises(CheckpointError, match=word):
        engine.save(tmp_path / "model.gguf", "f32")
    assert list(tmp_path.iterdir()) == []


def test_the_original_length_of_llama_3_counts_wherever_it_stands(tmp_path):
    config = json.loads((SEED / "config.json").read_text())
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config |= {"original_max_position_embeddings": 64, "rope_parameters": rope | {"rope_theta": 10000.0}}
    engine = _native.Engine.create(json.dumps(config), None, 1, 1)
    engine.save(tmp_path / "model.gguf", "f32")
    again = _native.Engine.load(tmp_path / "model.gguf", 1)
    ids = [[3, 4, 5, 6, 7, 8, 9, 10]]
    expected, found = engine.logits(ids).tolist()[0][-1], again.logits(ids).tolist()[0][-1]
    assert found == pytest.approx(expected, abs=1e-4)
