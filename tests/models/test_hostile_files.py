"""Files as strangers could have made them: seeded mutations of a model's files, each an error of one line or a model.

A few hundred by default; MOEVOLVE_MUTATIONS says how many.
"""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from chat_samples import CHATML, MINIMAX
from folders import copied

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.engine import Engine
from moevolve.models.plan import Plan

MUTATIONS = int(os.environ.get("MOEVOLVE_MUTATIONS", "300"))

SIDES: dict[str, Any] = {
    "tokenizer_config.json": {
        "bos_token": "<bos>",
        "eos_token": {"content": "<eos>", "special": True},
        "additional_special_tokens": ["<a>", "<b>"],
        "chat_template": CHATML,
    },
    "special_tokens_map.json": {"pad_token": "<pad>", "unk_token": {"content": "<unk>"}},
    "added_tokens.json": {"<a>": 55},
}
PARTS: dict[str, Any] = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhAGIA"},
        ],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": r"\p{N}{1,3}|\s+(?!\S)"},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            {"type": "Digits", "individual_digits": True},
            {"type": "FixedLength", "length": 3},
        ],
    },
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<pad>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<pad>": {"id": "<pad>", "ids": [0], "tokens": ["<pad>"]}},
    },
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 2},
}
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        2**31,
        2**63,
        2**64,
        1e308,
        1e-320,
        0.5,
        "",
        "yes",
        "a" * 3000,
        "\ud800",
    ),
    *([], {}, [[]], {"a": {}}, [0] * 999, [None], "\0", "<eos>", "AAAA", "/////w==", "(a+)+$", "(?<x"),
]


def odd(random: Random) -> Any:
    """One of them, of its own: what is changed later must not change the next mutation."""
    return deepcopy(random.choice(ODD))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*at, key))
    return found


def changed(random: Random, value: Any) -> Any:
    """A JSON value with up to three parts replaced, repeated, taken out, or put elsewhere."""
    value = json.loads(json.dumps(value))
    for _ in range(random.randrange(1, 4)):
        there = places(value)
        if not there:
            return odd(random)
        # The vocabulary has most places, and says least.
        *way, last = random.choice([p for p in there if "vocab" not in p or random.random() < 0.02] or there)
        parent = value
        for key in way:
            parent = parent[key]
        kind = random.randrange(5)
        if kind == 0:
            del parent[last]
        elif kind == 1 and isinstance(parent, list):
            parent[last:last] = [parent[last]] * random.choice([1, 2, 40])
        elif kind == 2:
            inner = value
            for key in random.choice(there):
                inner = inner[key] if isinstance(inner, dict | list) else inner
            parent[last] = json.loads(json.dumps(inner))
        elif kind == 3 and isinstance(parent, dict):
            parent[random.choice([*parent, "type", "extra"])] = parent.pop(last)
        else:
            parent[last] = odd(random)
    return value


def torn(random: Random, data: bytes) -> bytes:
    """Bytes cut, flipped, doubled, or with a piece of others."""
    at, to = sorted(random.randrange(len(data) + 1) for _ in range(2))
    kind = random.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[to:]
    if kind == 2:
        return data[:at] + random.randbytes(random.randrange(1, 9)) + data[at:]
    if kind == 3:
        return data[:to] + data[at:]
    flipped = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


TEMPLATES = [CHATML, MINIMAX]
WORDS = [
    *("{% for i in range(9999) %}", "{% endfor %}", "{{ messages * 9 }}", "{% set x = x ~ x %}", "{% if"),
    *(
        "| tojson(indent=99999999)",
        "{{ '%099999999d' % 1 }}",
        "[",
        "(",
        "}}",
        "{{ f(f) }}",
        "{% macro f(x) %}",
    ),
    *(
        "{{ ''.__class__ }}",
        "{{ lipsum(999) }}",
        "{% include 'x' %}",
        "\0",
        "😀",
        "{% raw %}",
        "{{ 1 // 0 }}",
    ),
]


def template(random: Random) -> str:
    """A chat template with a few words put in, doubled or cut."""
    source = random.choice(TEMPLATES)
    for _ in range(random.randrange(1, 4)):
        at, to = sorted(random.randrange(len(source) + 1) for _ in range(2))
        kind = random.randrange(4)
        if kind == 0:
            source = source[:at] + random.choice(WORDS) * random.choice([1, 1, 30]) + source[at:]
        elif kind == 1 and to - at < 400:
            source = source[:at] + source[to:]
        elif kind == 2 and to - at < 400:
            source = source[:to] + source[at:]
        else:
            source = source[:at] + random.choice(WORDS) + source[at:]
    return source


def spoil(random: Random, folder: Path) -> str:
    """Spoils one file of a folder; says which."""
    names = ["config.json"] * 3 + ["tokenizer.json"] * 5 + ["chat_template.jinja"]
    names += [
        *SIDES,
        "generation_config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ]
    name = random.choice(names)
    file = folder / name
    if name == "chat_template.jinja":
        file.write_text(template(random), encoding="utf-8", errors="surrogatepass")
    elif name.endswith(".safetensors") or random.random() < 0.3:
        data = file.read_bytes()
        head = min(len(data), 4000)  # A file of weights is torn where it has a header.
        file.write_bytes(torn(random, data[:head]) + data[head:])
    else:
        whole = json.loads(file.read_text(encoding="utf-8"))
        if name == "tokenizer.json":
            whole |= {key: PARTS[key] for key in random.sample(sorted(PARTS), random.randrange(4))}
        file.write_text(json.dumps(changed(random, whole)), encoding="utf-8")
    return name


def use(folder: Path) -> None:
    """What a user does with a model."""
    engine = Engine.load(folder, threads=1)
    if engine.has_tokenizer:
        engine.text(engine.encode("the fox,  13 times"))
        engine.decode(list(range(min(56, engine.vocab_size))), special=True)
    if engine.chat_template is not None:
        engine.chats.template.render([{"role": "user", "content": [{"type": "text", "text": "hi"}]}])
    if engine.vocab_size > 9:
        engine.generate([[5, 6, 7]], max_tokens=2)


@pytest.mark.parametrize("part", range(10))
def test_a_mutation_is_a_model_or_an_error_of_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], part: int
) -> None:
    whole = copied(tmp_path / "whole")
    for name, content in SIDES.items():
        (whole / name).write_text(json.dumps(content), encoding="utf-8")
    ends = {"refused": 0, "loaded": 0}
    for number in range(part, MUTATIONS, 10):
        random = Random(number)
        folder = tmp_path / "spoilt"
        shutil.copytree(whole, folder)
        name = spoil(random, folder)
        for deed in (use, Plan.of):
            try:
                deed(folder)
            except (CheckpointError, UsageError) as error:
                said = str(error)
                assert said.strip() and "\n" not in said and len(said) <= 1200, (number, name, said)
                ends["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"mutation {number} of {name}") from error
            else:
                ends["loaded"] += 1
        shutil.rmtree(folder)
    out = capfd.readouterr()
    assert out.err == "" and out.out == ""
    assert MUTATIONS < 100 or (ends["refused"] > ends["loaded"] / 9 and ends["loaded"])
