"""Files beside the weights: what they say is done as transformers does it, or refused by its key.

One file above 400 lines: every property spoils one side file of the same small folder.
"""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest
from folders import copied, edited, single, tensors, write_tensors

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan

TEXT = "the quick (brown) fox jumps over 13 dogs"
MARK = {"content": "<mark>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(tmp_path / "model")


def load(folder: Path, **options: Any) -> Engine:
    return Engine.load(folder, threads=1, **options)


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(folder, **options)
    said = str(caught.value)
    assert all(word in said for word in words) and "\n" not in said, said


def scores(engine: Engine) -> list[float]:
    return list(array("f", memoryview(engine.logits([[5, 9, 14, 22]])).tobytes()))


# --- the tokenizer


@pytest.mark.parametrize(
    "saved",
    [
        {"truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                "strategy": {"Fixed": 64},
                "direction": "Left",
                "pad_to_multiple_of": 7,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        },
    ],
    ids=["truncation", "padding"],
)
def test_what_was_saved_for_batches_of_training_cuts_and_fills_no_prompt(
    folder: Path, saved: dict[str, Any]
) -> None:
    whole = load(folder).encode(TEXT)
    edited(folder / "tokenizer.json", **saved)
    assert load(folder).encode(TEXT) == whole


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"added_tokens_decoder": {"55": MARK}}},
        {"tokenizer_config.json": {"additional_special_tokens": ["<mark>"]}},
        {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<mark>"}}},
        {"tokenizer_config.json": {"additional_special_tokens": {"image_token": "<mark>"}}},
        {"tokenizer_config.json": {"image_token": "<mark>"}},
        {"tokenizer_config.json": {"model_specific_special_tokens": {"image_token": "<mark>"}}},
        {"tokenizer_config.json": {"mask_token": MARK}},
        {"special_tokens_map.json": {"pad_token": "<mark>"}},
        {"special_tokens_map.json": {"additional_special_tokens": [MARK]}},
        {"added_tokens.json": {"<mark>": 55}},
    ],
    ids=lambda files: "-".join(f"{name}:{next(iter(what))}" for name, what in files.items()),
)
def test_a_token_in_any_file_is_one_token_and_stays_it(
    folder: Path, tmp_path: Path, files: dict[str, Any]
) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    engine = load(folder)
    assert engine.encode("a<mark>b") == [3, 55, 4]
    special = "added_tokens.json" not in files
    assert engine.text([3, 55, 4]) == ("ab" if special else "a<mark>b")
    engine.save(tmp_path / "saved")
    assert load(tmp_path / "saved").encode("a<mark>b") == [3, 55, 4]


def test_the_settings_own_tokens_count_before_the_map_beside_them(folder: Path) -> None:
    edited(folder / "special_tokens_map.json", bos_token="<a>", eos_token={"content": "<eos>"})
    edited(folder / "tokenizer_config.json", bos_token="<b>")
    assert load(folder).special == {"bos_token": "<a>", "eos_token": "<eos>"}
    edited(folder / "tokenizer_config.json", added_tokens_decoder={})
    assert load(folder).special == {"bos_token": "<b>"}


EXTRA, OLDER, OWN = "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"


@pytest.mark.parametrize(
    ("settings", "beside", "tokens", "special"),
    [
        ({EXTRA: ["<a>"]}, {EXTRA: ["<b>"]}, ["<a>", "<b>"], {}),
        ({EXTRA: ["<b>", "<a>"]}, {EXTRA: ["<a>"]}, ["<b>", "<a>"], {}),
        ({OLDER: ["<a>"]}, {OLDER: ["<b>"]}, ["<a>"], {}),
        ({OLDER: ["<a>"]}, {EXTRA: ["<b>"]}, ["<a>", "<b>"], {}),
        ({EXTRA: ["<a>"]}, {OLDER: ["<b>"]}, ["<a>"], {}),
        ({EXTRA: []}, {OLDER: ["<b>"]}, [], {}),
        ({EXTRA: [], OLDER: ["<b>"]}, {}, ["<b>"], {}),
        ({}, {EXTRA: ["<a>"], OLDER: ["<b>"]}, ["<a>"], {}),
        ({EXTRA: {"x_token": "<a>"}}, {EXTRA: ["<b>"]}, ["<a>", "<b>"], {"x_token": "<a>"}),
        ({EXTRA: ["<a>"]}, {EXTRA: {"x_token": "<b>"}}, ["<b>"], {"x_token": "<b>"}),
        ({"x_token": "<a>"}, {"x_token": "<b>"}, ["<a>"], {"x_token": "<a>"}),
        ({"x_token": "<a>"}, {"bos_token": "<b>"}, ["<b>", "<a>"], {"bos_token": "<b>", "x_token": "<a>"}),
        ({"x_token": "<a>", OWN: {"y_token": "<b>"}}, {}, ["<a>"], {"x_token": "<a>"}),
        ({OWN: {"y_token": "<b>"}}, {"x_token": "<a>"}, ["<a>", "<b>"], {"x_token": "<a>", "y_token": "<b>"}),
    ],
)
def test_tokens_that_two_files_name_are_joined_as_transformers_joins_them(
    folder: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    beside: dict[str, Any],
    tokens: list[str],
    special: dict[str, str],
) -> None:
    edited(folder / "tokenizer_config.json", **settings)
    edited(folder / "special_tokens_map.json", **beside)
    load(folder).save(tmp_path / "saved")
    for engine in (load(folder), load(tmp_path / "saved")):
        ids = {token: engine.encode(token) for token in ("<a>", "<b>")}
        assert ids == {t: [55 + tokens.index(t)] if t in tokens else ids[t] for t in ids}
        assert all(len(ids[token]) > 1 for token in ids if token not in tokens)
        assert engine.special == special


def test_special_tokens_of_a_text_that_are_none_are_refused(folder: Path) -> None:
    edited(folder / "tokenizer_config.json", split_special_tokens=True)
    refused(folder, "tokenizer_config.json", "split_special_tokens")
    edited(folder / "tokenizer_config.json", split_special_tokens=False)
    load(folder)


def test_a_token_beyond_the_embedding_is_refused_where_it_is_used(folder: Path) -> None:
    edited(folder / "tokenizer_config.json", additional_special_tokens=["<one>", "<two>"])
    engine = load(folder)
    assert engine.encode("<one>") == [55]
    with pytest.raises(UsageError, match="56"):
        engine.generate([engine.encode("a<two>")], max_tokens=1)


def test_further_templates_lie_in_a_folder_of_their_own(folder: Path, tmp_path: Path) -> None:
    edited(folder / "tokenizer_config.json", chat_template="of the settings")
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("tools", encoding="utf-8")
    (folder / "chat_template.jinja").write_text("plain", encoding="utf-8")
    engine = load(folder)
    assert engine.chat_templates == {"default": "plain", "tool_use": "tools"}
    engine.save(tmp_path / "saved")
    assert load(tmp_path / "saved").chat_templates == engine.chat_templates


def test_of_several_templates_the_default_is_taken_and_no_other(folder: Path) -> None:
    edited(folder / "tokenizer_config.json", chat_template=[{"name": "rag", "template": "r"}])
    engine = load(folder)
    assert engine.chat_template is None
    with pytest.raises(UsageError, match=r"no chat template that is the default.*rag"):
        engine.chats  # noqa: B018 - making it is what fails


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tokenizer_config.json", '{"chat_template": "x', "is not JSON"),
        ("tokenizer_config.json", "[]", "is not a JSON object"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template"),
        ("tokenizer_config.json", '{"chat_template": [{"name": "x"}]}', "chat_template"),
        ("tokenizer_config.json", '{"bos_token": 3}', "bos_token"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}', "no id"),
        ("tokenizer_config.json", '{"additional_special_tokens": "x"}', "additional_special_tokens"),
        ("tokenizer_config.json", '{"additional_special_tokens": {"a": 3}}', "is no token"),
        ("tokenizer_config.json", '{"model_specific_special_tokens": 3}', "model_specific_special_tokens"),
        ("special_tokens_map.json", '{"a": ', "is not JSON"),
        ("added_tokens.json", '{"a": "b"}', "no id"),
        ("generation_config.json", "{", "is not JSON"),
    ],
)
def test_a_torn_file_beside_is_named(folder: Path, file: str, text: str, words: str) -> None:
    (folder / file).write_text(text, encoding="utf-8")
    refused(folder, file, words)


CHARSMAP = {"type": "Precompiled"}
TWICE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
LONG = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {**CHARSMAP, "precompiled_charsmap": "AAAA"}),
        ("normalizer", {**CHARSMAP, "precompiled_charsmap": "/////w=="}),
        ("normalizer", {"type": "Sequence", "normalizers": [LONG] * 3}),
        ("decoder", {"type": "Sequence", "decoders": [LONG] * 3}),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 30}),
        ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        ("post_processor", {**TWICE, "single": [{"SpecialToken": {"id": "<nope>", "type_id": 0}}]}),
        (
            "post_processor",
            {
                "type": "Sequence",
                "processors": [{**TWICE, "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 30}] * 9,
            },
        ),
        ("model", {"type": "BPE", "dropout": 0.5, "vocab": {"a": 0}, "merges": []}),
        ("model", {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}),
        ("model", {"type": "WordPiece"}),
        ("added_tokens", [{"id": -1, "content": "x"}]),
        ("version", "2.0"),
    ],
)
def test_a_tokenizer_that_would_take_the_memory_or_panic_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], part: str, value: Any
) -> None:
    edited(folder / "tokenizer.json", **{part: value})
    refused(folder, "tokenizer.json")
    assert capfd.readouterr().err == ""


def test_a_tokenizer_that_fails_on_a_text_says_nothing_beside_its_error(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited(folder / "tokenizer.json", decoder={"type": "Strip", "content": "a", "start": 0, "stop": 9})
    with pytest.raises(UsageError, match="cannot be decoded"):
        load(folder).decode([3, 3])
    assert capfd.readouterr().err == ""


# --- the weights


def test_a_head_beside_a_flag_that_ties_it_counts_where_it_differs(folder: Path) -> None:
    named = single(folder)
    untied = scores(load(folder))
    edited(folder / "config.json", tie_word_embeddings=True)
    assert scores(load(folder)) == untied
    assert json.loads(load(folder).config)["tie_word_embeddings"] is False
    embedding = named["model.embed_tokens.weight"]
    write_tensors(folder / "model.safetensors", {**named, "lm_head.weight": embedding})
    tied = load(folder)
    assert json.loads(tied.config)["tie_word_embeddings"] is True and scores(tied) != untied
    del named["model.embed_tokens.weight"]
    write_tensors(folder / "model.safetensors", {**named, "lm_head.weight": embedding})
    assert scores(load(folder)) == scores(tied)


def test_a_folder_without_a_head_or_a_word_about_it_computes_with_its_embedding(folder: Path) -> None:
    named = single(folder)
    del named["lm_head.weight"]
    write_tensors(folder / "model.safetensors", named)
    edited(folder / "config.json", tie_word_embeddings=...)
    unsaid = load(folder)
    edited(folder / "config.json", tie_word_embeddings=True)
    assert scores(unsaid) == scores(load(folder))
    edited(folder / "config.json", tie_word_embeddings=False)
    refused(folder, "lm_head.weight", "is missing")


def test_the_single_file_counts_before_an_index(folder: Path) -> None:
    expected = scores(load(folder))
    index = (folder / "model.safetensors.index.json").read_text(encoding="utf-8")
    shards = {file: file.read_bytes() for file in folder.glob("model-*.safetensors")}
    single(folder)
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    assert scores(load(folder)) == expected  # An index of files that are gone.
    for file, data in shards.items():
        file.write_bytes(data)
    assert scores(load(folder)) == expected  # Two sets.


def test_a_missing_tensor_is_the_fault_of_the_file_that_should_hold_it(folder: Path) -> None:
    second = folder / "model-00002-of-00002.safetensors"
    named = tensors(second)
    gone = next(name for name in named if name.startswith("model.layers.1"))
    del named[gone]
    write_tensors(second, named)
    refused(folder, second.name, gone, "is missing")
    one = copied(folder.parent / "one")
    write_tensors(one / "model.safetensors", {k: v for k, v in single(one).items() if k != gone})
    refused(one, "model.safetensors", gone, "is missing")
    second.unlink()
    refused(folder, "model.safetensors.index.json", second.name, "1 of its 2 files")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("model.", "", "base model without its head"),
        ("model.", "_orig_mod.model.", "compiled model"),
        ("model.", "model.language_model.", "texts and images"),
        ("model.", "base_model.model.model.", "merge the adapter"),
        ("model.", "transformer.", "whose beginning is another"),
    ],
)
def test_weights_under_other_names_are_led_home(folder: Path, before: str, after: str, words: str) -> None:
    named = {
        after + name.removeprefix(before) if name.startswith(before) else name: tensor
        for name, tensor in single(folder).items()
    }
    write_tensors(folder / "model.safetensors", named)
    refused(folder, "model.safetensors", f"{after}embed_tokens.weight", words)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["refs/main", "blobs/x", "snapshots/8a1b/config.json"], "snapshots/8a1b"),
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        (["small-Q4_K_M.gguf"], "small-Q4_K_M.gguf"),
        (["readme.md"], "config.json"),
    ],
)
@pytest.mark.parametrize("of", [load, Plan.of], ids=["load", "plan"])
def test_a_folder_of_another_kind_says_what_to_give_instead(
    tmp_path: Path, files: list[str], words: str, of: Any
) -> None:
    for name in files:
        file = tmp_path / "given" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("8a1b", encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        of(tmp_path / "given")
    assert words in str(caught.value)


def test_pickled_weights_are_named_and_not_read(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    refused(folder, "pytorch_model.bin", "save_pretrained")


def test_a_gguf_of_another_kind_is_named(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    for kind, words in (("adapter", "LoRA adapter"), ("mmproj", "lies beside one")):
        entries = {"general.architecture": "llama", "general.type": kind}
        body = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in entries.items())
        file = tmp_path / f"{kind}.gguf"
        file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body)
        for of in (load, Plan.of):
            with pytest.raises(CheckpointError, match=rf"{kind}.gguf: general.type: .*{words}"):
                of(file)


# --- the configuration and adapters


def test_a_file_cannot_fill_the_screen_or_break_the_line(folder: Path) -> None:
    edited(folder / "config.json", hidden_size=[0] * 9999)
    with pytest.raises(CheckpointError, match=r"hidden_size: \[0,0,.* \.\.\. .*not a positive") as caught:
        load(folder)
    assert len(str(caught.value)) < 1100
    named = single(folder)
    named["a\n\x1b[2Jb"] = ("F32", (1,), bytes(4))
    write_tensors(folder / "model.safetensors", named)
    edited(folder / "config.json", hidden_size=32)
    refused(folder, "model.safetensors", "tensor a  [2Jb")


def test_yarn_says_its_factor_even_where_lengths_would(folder: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 64}
    edited(folder / "config.json", rope_parameters=yarn)
    refused(folder, "factor: is missing")
    edited(folder / "config.json", rope_parameters={**yarn, "factor": None})
    by_ratio = scores(load(folder))
    edited(folder / "config.json", rope_parameters={**yarn, "factor": 4.0})
    assert scores(load(folder)) == by_ratio


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", "yarn"),
        ("rope_scaling", ["yarn", 4]),
        ("rope_scaling", 4),
        ("rope_parameters", "default"),
        ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        ("rope_parameters", {"rope_type": "longrope"}),
        ("layer_types", "full_attention"),
        ("layer_types", ["sliding_attention", "full_attention"]),
        ("attn_type_list", "1, 1"),
        ("num_mtp_modules", "three"),
        ("use_mtp", "yes"),
        ("tie_word_embeddings", "true"),
        ("rms_norm_eps", 0),
        ("rope_theta", -5),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("quantization_config", "fp8"),
        ("max_position_embeddings", True),
        ("is_causal", False),
        ("is_causal", None),
    ],
)
def test_a_key_of_another_type_or_kind_is_refused_and_the_plan_says_so(
    folder: Path, key: str, value: Any
) -> None:
    if key == "rope_theta":
        edited(folder / "config.json", rope_parameters=...)
    edited(folder / "config.json", **{key: value})
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert key in str(caught.value) or (
        isinstance(value, dict) and any(k in str(caught.value) for k in value)
    )
    try:
        planned = Plan.of(folder)
    except CheckpointError as error:
        assert key in str(error)
    else:
        assert planned.obstacle == str(caught.value)


def test_a_plan_names_the_family_of_a_wrapped_configuration(tmp_path: Path) -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 2048}
    edited(tmp_path / "config.json", model_type="gemma3", text_config=inner)
    with pytest.raises(CheckpointError, match="gemma3 cannot be planned"):
        Plan.of(tmp_path)
    edited(tmp_path / "config.json", model_type="llama")
    with pytest.raises(CheckpointError, match=r"\(llama\): .*hidden_size"):
        Plan.of(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("init_lora_weights", init) for init in ("pissa", "pissa_niter_4", "olora", "OLoRA")),
        *(("init_lora_weights", init) for init in ("corda", "loftq", "lora_ga", "mica", 3, ["eva"])),
        ("use_rslora", "yes"),
        ("use_rslora", 1),
        ("kasa_config", {"beta": 1}),
        ("arrow_config", {"top_k": 1}),
        ("a_key_of_tomorrow", True),
    ],
)
def test_an_adapter_that_computes_something_else_is_refused_by_its_key(
    folder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    engine = load(folder)
    engine.adapt(4)
    engine.save_adapter(tmp_path / "adapter")
    config = edited(tmp_path / "adapter" / "adapter_config.json", **{key: value})
    refused(folder, config.name, key, adapter=tmp_path / "adapter")


@pytest.mark.parametrize(
    ("there", "words"),
    [("adapter_model.bin", "adapter_model.bin, pickled"), ("readme.md", "has no adapter_model.safetensors")],
)
def test_an_adapter_without_its_weights_says_what_to_do(
    folder: Path, tmp_path: Path, there: str, words: str
) -> None:
    engine = load(folder)
    engine.adapt(4)
    engine.save_adapter(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / there)
    refused(folder, words, "PEFT", adapter=tmp_path / "adapter")


@pytest.mark.parametrize(
    "said",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": False, "auto_mapping": {"unsloth_fixed": True}, "peft_version": "0.21.2"},
        {"arrow_config": None, "ensure_weight_tying": False, "loftq_config": {}, "qalora_group_size": 16},
    ],
)
def test_an_adapter_may_say_how_it_was_made(folder: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    engine = load(folder)
    engine.adapt(4)
    engine.save_adapter(tmp_path / "adapter")
    edited(tmp_path / "adapter" / "adapter_config.json", **said)
    assert load(folder, adapter=tmp_path / "adapter").weights_hash == engine.weights_hash
