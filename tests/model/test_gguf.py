"""GGUF files: one written here by hand, and the seed model there and back."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
from gguf_files import HEAD, HIDDEN, gguf, llama
from requests_of import request

import moevolve
from moevolve import _native
from moevolve.errors import CheckpointError, UsageError
from moevolve.models.tokenizer import CHARACTERS

SEED = Path(moevolve.__file__).parent / "models" / "seed"
PROMPT = "reverse: abcd="


def test_a_file_made_elsewhere_is_the_same_model_as_a_folder(tmp_path):
    metadata, tensors = llama()
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    engine = _native.Engine.load(file, 1)
    config = json.loads(engine.config())
    assert config["model_type"] == "llama"
    assert config["rms_norm_eps"] == 1e-5
    assert engine.eos == [38]
    assert engine.encode("abc d</s>") == [36, 2, 39, 3, 38]
    assert engine.decode([36, 2, 39, 3, 38]) == "abc d"
    assert engine.chat_template == "{{ messages[0]['content'] }}</s>"
    assert engine.special["eos_token"] == "</s>"
    # Rows 2i and 2i + 1 of a head are dimensions i and i + half: through a folder and back, nothing changes.
    engine.save(tmp_path / "folder", "f32")
    again = _native.Engine.load(tmp_path / "folder", 1)
    assert again.logits([[1, 2, 3]]).tolist() == engine.logits([[1, 2, 3]]).tolist()
    again.save(tmp_path / "again.gguf", "f32")
    back = (tmp_path / "again.gguf").read_bytes()
    name = "blk.1.attn_q.weight"
    numbers = tensors[name][1]
    assert struct.pack(f"<{len(numbers)}f", *numbers) in back
    assert _native.Engine.load(tmp_path / "again.gguf", 1).fingerprint() == engine.fingerprint()


NAMED = {"default": "{{ messages[0].content }}", "tool_use": "{{ tools }}", "rag": "{{ documents }}"}


def test_templates_by_name_are_read_and_written_as_llama_cpp_names_them(tmp_path):
    metadata, tensors = llama()
    metadata["tokenizer.chat_template.tool_use"] = "{{ tools }}"
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    engine = _native.Engine.load(file, 1)
    meant = {"default": metadata["tokenizer.chat_template"], "tool_use": "{{ tools }}"}
    assert engine.chat_templates == meant
    engine.save(tmp_path / "folder", "f32")
    folder = _native.Engine.load(tmp_path / "folder", 1)
    folder.save(tmp_path / "again.gguf", "f32")
    assert folder.chat_templates == _native.Engine.load(tmp_path / "again.gguf", 1).chat_templates == meant
    written = (tmp_path / "again.gguf").read_bytes()
    assert b"tokenizer.chat_template.tool_use" in written and b"tokenizer.chat_templates" in written


def seed_with(folder, templates, *, files):
    """The seed with chat templates in its settings, or in files of their own."""
    shutil.copytree(SEED, folder)
    settings = folder / "tokenizer_config.json"
    told = json.loads(settings.read_text()) if settings.is_file() else {}
    if not files:
        told["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    settings.write_text(json.dumps(told))
    for name, text in templates.items() if files else ():
        file = folder / "chat_template.jinja"
        if name != "default":
            file = folder / "additional_chat_templates" / f"{name}.jinja"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return _native.Engine.load(folder, 1)


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("names", [("default",), ("tool_use", "rag"), tuple(NAMED)])
def test_no_chat_template_of_a_folder_is_lost(tmp_path, files, names):
    meant = {name: NAMED[name] for name in names}
    engine = seed_with(tmp_path / "model", meant, files=files)
    assert engine.chat_templates == meant
    engine.save(tmp_path / "model.gguf", "f32")
    assert _native.Engine.load(tmp_path / "model.gguf", 1).chat_templates == meant


def test_a_template_whose_name_gguf_cannot_say_is_refused_before_a_file_exists(tmp_path):
    engine = seed_with(tmp_path / "model", {"default": "a", "tool use": "b"}, files=False)
    with pytest.raises(CheckpointError, match='chat template "tool use"'):
        engine.save(tmp_path / "model.gguf", "f32")
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("change, words", [
    (lambda m, t: t.pop("blk.1.ffn_up.weight"), ["model.layers.1.mlp.up_proj.weight", "missing"]),
    (lambda m, t: t.update({"blk.2.attn_norm.weight": ((HIDDEN,), [1.0] * HIDDEN)}), ["model.layers.2"]),
    (lambda m, t: t.update({"blk.0.strange.weight": ((1,), [1.0])}), ["blk.0.strange.weight", "llama"]),
    (lambda m, t: t["output_norm.weight"][1].__setitem__(3, float("nan")), ["model.norm.weight", "index 3"]),
    (lambda m, t: m.update({"llama.embedding_length": 36}), ["shape"]),
    (lambda m, t: m.update({"llama.block_count": 2**31 - 1}), ["sizes make"]),
    (lambda m, t: m.update({"general.architecture": "gpt2"}), ["general.architecture", "gpt2"]),
    (lambda m, t: m.pop("llama.attention.head_count"), ["llama.attention.head_count", "missing"]),
    (lambda m, t: m["tokenizer.ggml.tokens"].__setitem__(1, "a"), ["tokenizer.ggml.tokens", "token 0"]),
    (lambda m, t: m.pop("tokenizer.ggml.merges"), ["tokenizer.ggml.merges", "missing"]),
    (lambda m, t: m.update({"tokenizer.ggml.model": "bert"}), ["tokenizer.ggml.model", "bert"]),
])  # fmt: skip
def test_a_wrong_file_is_refused_by_name(tmp_path, change, words):
    metadata, tensors = llama()
    change(metadata, tensors)
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    with pytest.raises(CheckpointError) as caught:
        _native.Engine.load(file, 1)
    message = str(caught.value)
    for word in ["model.gguf", *words]:
        assert word in message, message


@pytest.mark.parametrize("name", ["of-tomorrow", "kimi-k2", "gemma4", "superbpe"])
def test_a_split_that_is_not_known_is_refused(tmp_path, name):
    metadata, tensors = llama()
    metadata["tokenizer.ggml.pre"] = name
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    with pytest.raises(CheckpointError, match=rf"model\.gguf: tokenizer\.ggml\.pre: \"{name}\""):
        _native.Engine.load(file, 1)


@pytest.mark.parametrize("name", [None, "", "default"])
def test_a_file_without_a_split_has_llama_cpps_own(tmp_path, name):
    metadata, tensors = llama()
    metadata["tokenizer.ggml.merges"] = ["a b", "0 1", "2 3", "01 23", "Ġ 0"]
    metadata["tokenizer.ggml.tokens"][32:36] = ["01", "23", "0123", "Ġ0"]
    metadata["tokenizer.ggml.pre"] = name
    if name is None:
        del metadata["tokenizer.ggml.pre"]
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    engine = _native.Engine.load(file, 1)
    # Three digits at a time, none with the blank before them.
    assert engine.encode("ab 0123") == [36, 39, 32, 28, 29]
    assert engine.notes == []


def test_the_rule_behind_rope_factors_is_found(tmp_path):
    metadata, tensors = llama()
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 8192, "rope_theta": 500000.0}
    factors = []
    for i in range(HEAD // 2):
        wavelength = 2 * 3.141592653589793 * 500000.0 ** (2 * i / HEAD)
        smooth = (8192 / wavelength - 1.0) / 3.0
        stretched = 1 / ((1 - smooth) / 8.0 + smooth)
        factors.append(1.0 if smooth > 1 else 8.0 if smooth < 0 else stretched)
    metadata["llama.rope.freq_base"] = 500000.0
    tensors["rope_freqs.weight"] = ((HEAD // 2,), factors)
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf(metadata, tensors))
    found = json.loads(_native.Engine.load(file, 1).config())["rope_parameters"]
    assert {key: found[key] for key in rope} == rope
    tensors["rope_freqs.weight"] = ((HEAD // 2,), [1.0, 3.0, 2.0, 5.0] * (HEAD // 8))
    file.write_bytes(gguf(metadata, tensors))
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight"):
        _native.Engine.load(file, 1)


def test_the_seed_goes_there_and_back(tmp_path):
    engine = _native.Engine.load(SEED, 1)
    file = tmp_path / "seed.gguf"
    engine.save(file, "f32")
    again = _native.Engine.load(file, 1)
    assert again.fingerprint() == engine.fingerprint()
    known = CHARACTERS.replace("<", "")
    assert again.encode(known) == engine.encode(known)
    assert again.decode(again.encode(known)) == known
    assert again.eos == engine.eos


@pytest.mark.parametrize("format, bits", [("f16", 16.3), ("q8_0", 8.8), ("q4_0", 4.8), ("q4_k", 5.8)])
def test_a_narrow_seed_still_reverses(tmp_path, format, bits):
    engine = _native.Engine.load(SEED, 1)
    file = tmp_path / "seed.gguf"
    engine.save(file, format)
    assert file.stat().st_size * 8 / engine.parameters < bits
    narrow = _native.Engine.load(file, 1)
    asked = [request(engine.encode(PROMPT), [1], 12, 0.0)]
    if format in ("f16", "q8_0"):
        assert narrow.generate(asked)[0][0].tokens == engine.generate(asked)[0][0].tokens
    plan = json.loads(_native.plan(file))
    assert plan["parameters"] == json.loads(_native.plan(SEED))["parameters"]
    assert plan["stored_bytes"] < file.stat().st_size
    with pytest.raises(UsageError, match="q3_k"):
        engine.save(tmp_path / "other.gguf", "q3_k")


def test_what_llama_cpp_lacks_is_refused_before_a_file_exists(tmp_path):
    words = {"<eos>": 0, "a": 1, "two words": 2}
    tokenizer: dict = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<eos>"},
    }  # fmt: skip
    config = json.loads((SEED / "config.json").read_text())
    engine = _native.Engine.create(json.dumps(config), json.dumps(tokenizer), 1, 1)
    with pytest.raises(CheckpointError, match="two words"):
        engine.save(tmp_path / "model.gguf", "f16")
    assert list(tmp_path.iterdir()) == []
