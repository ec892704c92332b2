"""Texts that go on from a prompt: of a tokenizer whose decoder takes a blank from a text's beginning, none is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from folders import copied, edited

from moevolve.models.engine import Engine
from moevolve.models.text_decoder import TextDecoder
from moevolve.models.text_reader import TextReader, following

WORDS = ("▁", "▁▁▁", "▁return", "▁Paris", "is", "France", ":", "x")
IDS = {word: 3 + 256 + place for place, word in enumerate(WORDS)}
STRIP: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]


@pytest.fixture(scope="module", params=["strip", "metaspace"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A model whose tokens hold their blanks, as those of Llama 2 do."""
    folder = copied(tmp_path_factory.mktemp("blanks") / "model")
    special = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    bytes_ = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    decoder: dict[str, Any] = {"type": "Sequence", "decoders": STRIP}
    if request.param == "metaspace":
        decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
    edited(
        folder / "tokenizer.json",
        pre_tokenizer=None,
        decoder=decoder,
        model={
            "type": "BPE",
            "vocab": {**special, **bytes_, **IDS},
            "merges": [],
            "unk_token": "<unk>",
            "byte_fallback": True,
            "fuse_unk": True,
        },
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"vocab_size": 259 + len(WORDS)}
    return Engine.create(
        json.dumps(config), (folder / "tokenizer.json").read_text(encoding="utf-8"), threads=1
    )


def ids(*words: str) -> list[int]:
    return [IDS[word] for word in words]


@pytest.mark.parametrize(
    ("prompt", "drawn", "text"),
    [
        ((":",), ("▁▁▁", "▁return"), "    return"),
        (("France", "is"), ("▁Paris",), " Paris"),
        (("France", "▁"), ("▁Paris",), " Paris"),
        (("x",), ("▁",), " "),
        (("x",), ("▁", "▁Paris"), "  Paris"),
        (("x",), ("is", "▁Paris"), "is Paris"),
        ((), ("▁Paris",), "Paris"),
        (("x",), (), ""),
    ],
)
def test_a_completion_has_the_blanks_that_were_drawn(
    engine: Engine, prompt: tuple[str, ...], drawn: tuple[str, ...], text: str
) -> None:
    before, tokens = ids(*prompt), ids(*drawn)
    assert following(engine, before, tokens, engine.text(tokens)) == text
    reader = TextReader(engine, before=before)
    assert "".join(map(reader.push, tokens)) + reader.finish() == text


def test_a_turn_is_a_text_by_itself(engine: Engine) -> None:
    reader = TextReader(engine)
    assert "".join(map(reader.push, ids("▁Paris"))) == "Paris" == engine.text(ids("▁Paris"))


def test_generate_and_stream_tell_the_blank_and_a_chat_does_not(engine: Engine) -> None:
    only: dict[str, Any] = {"logit_bias": {IDS["▁Paris"]: 100.0}, "max_tokens": 2, "temperature": 0.0}
    prompt = ids("France", "is")
    [whole] = engine.generate([prompt], **only)
    assert whole.text == " Paris Paris"
    assert "".join(piece.text for piece in engine.stream(prompt, **only)) == " Paris Paris"
    [stopped] = engine.generate([prompt], stop=["x"], **only)
    assert stopped.text == " Paris Paris"


def test_a_prompt_that_ends_inside_a_character_is_no_context() -> None:
    decoder = TextDecoder(lambda some: bytes(some).decode("utf-8", "replace"), list("é".encode()[:1]))
    assert "".join(decoder.push(byte) for byte in b"ab") == "ab"
