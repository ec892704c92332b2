"""Tokens of side files, and content in parts, beside transformers: `make parity`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs transformers: run `make parity`", allow_module_level=True)

from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from moevolve.models.engine import Engine
from moevolve.models.template import ChatTemplate

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from folders import copied, edited  # noqa: E402

TEXT = "a<mark>b<x><q>ab the quick brown fox"
MARK = {"content": "<mark>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}
PLAIN = {"content": "<x>", "lstrip": True, "rstrip": False, "normalized": True, "special": False}
CUT = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
EXTRA, OLDER, OWN = "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"
FILES: list[dict[str, dict[str, Any]]] = [
    {"tokenizer_config.json": {"added_tokens_decoder": {"55": MARK, "57": PLAIN}}},
    {"tokenizer_config.json": {"added_tokens_decoder": {"3": {"content": "ab"}}, "bos_token": "<q>"}},
    {"tokenizer_config.json": {"additional_special_tokens": ["<mark>", "<q>"]}},
    {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<mark>"}}},
    {"tokenizer_config.json": {"image_token": "<mark>", "bos_token": "a"}},
    {"tokenizer_config.json": {"mask_token": {"__type": "AddedToken", **MARK}}},
    {"special_tokens_map.json": {"pad_token": "<mark>"}, "tokenizer_config.json": {"pad_token": "<pad>"}},
    {"special_tokens_map.json": {"pad_token": "<q>"}, "tokenizer_config.json": {"added_tokens_decoder": {}}},
    {"special_tokens_map.json": {"bos_token": MARK, "additional_special_tokens": ["<q>"]}},
    {"added_tokens.json": {"<x>": 56, "<mark>": 55}},
    {"added_tokens.json": {"<x>": 55}, "special_tokens_map.json": {"eos_token": "<x>"}},
    {"tokenizer.json": {"truncation": CUT}},
]
JOINED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({EXTRA: ["<mark>"]}, {EXTRA: ["<q>"]}),
    ({EXTRA: ["<q>", "<mark>"]}, {EXTRA: ["<mark>", "<x>"]}),
    ({OLDER: ["<mark>"]}, {OLDER: ["<q>"]}),
    ({OLDER: ["<mark>"]}, {EXTRA: ["<q>"]}),
    ({EXTRA: ["<mark>"]}, {OLDER: ["<q>"]}),
    ({EXTRA: []}, {OLDER: ["<q>"]}),
    ({EXTRA: [], OLDER: ["<q>"]}, {}),
    ({}, {EXTRA: ["<mark>"], OLDER: ["<q>"]}),
    ({EXTRA: {"x_token": "<mark>"}}, {EXTRA: ["<q>"]}),
    ({EXTRA: ["<mark>"]}, {EXTRA: {"x_token": "<q>"}}),
    ({"x_token": "<mark>"}, {"x_token": "<q>"}),
    ({"x_token": "<mark>"}, {"bos_token": "<q>"}),
    ({"x_token": "<mark>", OWN: {"y_token": "<q>"}}, {}),
    ({OWN: {"y_token": "<q>"}}, {"x_token": "<mark>"}),
    ({OWN: {"y_token": "<q>"}}, {}),
]
FILES += [
    {"tokenizer_config.json": settings, "special_tokens_map.json": beside} for settings, beside in JOINED
]


@pytest.mark.parametrize("files", FILES, ids=lambda files: "-".join(files))
def test_a_folder_has_the_tokens_that_transformers_has(
    tmp_path: Path, files: dict[str, dict[str, Any]]
) -> None:
    folder = copied(tmp_path / "m")
    edited(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    for name, changes in files.items():
        edited(folder / name, **changes)
    theirs, ours = AutoTokenizer.from_pretrained(str(folder)), Engine.load(folder, threads=1)
    ids = theirs.encode(TEXT, add_special_tokens=False)
    assert ours.encode(TEXT, whole=False) == ids
    assert ours.text(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.special == theirs.special_tokens_map


PARTS = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
READ = [
    "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}",
    "{% for m in messages %}{{ m.content | map(attribute='text') | join('+') }}{% endfor %}",
    "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
    "{% for m in messages %}{{ m.content[0].text }}{% endfor %}",
]


@pytest.mark.parametrize("source", READ)
def test_parts_are_rendered_as_transformers_renders_them(source: str) -> None:
    messages = [{"role": "user", "content": PARTS}, {"role": "tool", "content": PARTS[:1]}]
    (theirs,), _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=True)
    assert ChatTemplate(source, {}, "m").render(messages) == theirs
