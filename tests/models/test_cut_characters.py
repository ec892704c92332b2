"""Texts that end, or break, inside a character: whole characters are kept, and a stream says what the whole text says."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from folders import copied, edited

from moevolve.models.engine import Engine
from moevolve.models.text_decoder import TextDecoder

MARK = "\ufffd"
BYTES = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A model whose tokenizer falls back to bytes, as SentencePiece's do."""
    folder = copied(tmp_path_factory.mktemp("bytes") / "model")
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **BYTES, "▁": 259, "a": 260}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    edited(
        folder / "tokenizer.json",
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": decoders},
        model={
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [],
            "unk_token": "<unk>",
            "byte_fallback": True,
            "fuse_unk": True,
        },
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"vocab_size": 261}
    return Engine.create(
        json.dumps(config), (folder / "tokenizer.json").read_text(encoding="utf-8"), threads=1
    )


def ids(*parts: str | bytes) -> list[int]:
    """Tokens of letters `a`, spaces, and bytes."""
    found = []
    for part in parts:
        if isinstance(part, bytes):
            found += [3 + byte for byte in part]
        else:
            found += [{"a": 260, " ": 259}[letter] for letter in part]
    return found


def streamed(engine: Engine, tokens: list[int]) -> str:
    decoder = TextDecoder(lambda some: engine.decode(some, special=True))
    return "".join(decoder.push(token) for token in tokens) + decoder.finish()


EMOJI = "😀".encode()


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (ids("a", EMOJI, EMOJI[:2]), f"a😀{MARK * 2}"),
        (ids("a", EMOJI[:3]), f"a{MARK * 3}"),
        (ids(EMOJI, EMOJI[1:], "a"), f"😀{MARK * 3}a"),
        (ids(EMOJI, b"\xff", EMOJI, "a"), f"😀{MARK}😀a"),
        (ids("é".encode(), b"\xc3", " a"), f"é{MARK} a"),
        (ids(b"\xff" * 30), MARK * 30),
    ],
)
def test_whole_characters_are_kept(engine: Engine, tokens: list[int], text: str) -> None:
    assert engine.text(tokens) == text == streamed(engine, tokens)


def test_any_bytes_read_the_same_in_pieces_and_at_once(engine: Engine) -> None:
    random = Random(0)
    parts: list[str | bytes] = [
        EMOJI,
        EMOJI[:2],
        EMOJI[2:],
        "é".encode(),
        "é".encode()[:1],
        b"x",
        b"\xff",
        "a",
        " a",
    ]
    for _ in range(2000):
        tokens = ids(*random.choices(parts, k=random.randrange(1, 12)))
        assert streamed(engine, tokens) == engine.text(tokens), tokens
