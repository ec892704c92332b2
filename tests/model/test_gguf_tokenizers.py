"""A GGUF file that was saved reads every text as its model does: what llama.cpp does not do to a text is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import moevolve
from moevolve import _native
from moevolve.errors import CheckpointError

SEED = Path(moevolve.__file__).parent / "models" / "seed"
SPACE = "▁"
TEXTS = [
    "",
    "the cat",
    " The  Cat ",
    "the`` cafe\u0301 é ﬁ①",
    "<s>the</s>cat",
    "<s> the </s> cat ",
    "a<|t|>b <|t|>  c",
    "cats a cat",
    "\tthe\r\n",
]

PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def metaspace(scheme: str, split: bool = False) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


def sequence(*normalizers: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(normalizers)}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def added(token: int, content: str, **flags: bool) -> dict[str, Any]:
    said = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": content, **said, **flags}


def vocabulary(first: list[str], words: list[str]) -> tuple[dict[str, int], list[list[str]]]:
    """Ids of tokens and the merges that make the words, letter by letter."""
    ids: dict[str, int] = {}
    merges = []
    for token in [*first, *dict.fromkeys("".join(words))]:
        ids.setdefault(token, len(ids))
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in ids:
                ids[word[:end]] = len(ids)
                merges.append([word[: end - 1], word[end - 1]])
    return ids, merges


def pieces(**changes: Any) -> dict[str, Any]:
    """SentencePiece's pairs with bytes to fall back on, as Llama 2 has them."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    ids, merges = vocabulary(
        ["<unk>", "<s>", "</s>", "<|t|>", *bytes_], [SPACE + "the", "the", SPACE + "cat", "cat"]
    )
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": ids}
    return {
        "version": "1.0",
        "added_tokens": [added(i, name) for i, name in enumerate(["<unk>", "<s>", "</s>", "<|t|>"])],
        "normalizer": sequence(PREPEND, REPLACE),
        "model": {**model, "merges": merges},
        **changes,
    }  # fmt: skip


def letters(**changes: Any) -> dict[str, Any]:
    """Pairs of bytes behind GPT-2's split."""
    seen = [chr(byte) for byte in range(256) if byte in {*range(33, 127), *range(161, 173), *range(174, 256)}]
    hidden = [chr(256 + at) for at in range(256 - len(seen))]
    ids, merges = vocabulary(["<s>", "</s>", "<|t|>", *seen, *hidden], ["the", "Ġthe", "Ġcat"])
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [added(i, name) for i, name in enumerate(["<s>", "</s>", "<|t|>"])],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": ids, "merges": merges},
        **changes,
    }


def made(tokenizer: dict[str, Any]) -> _native.Engine:
    config = json.loads((SEED / "config.json").read_text()) | {"vocab_size": 340}
    return _native.Engine.create(json.dumps(config), json.dumps(tokenizer), 1, 1)


@pytest.mark.parametrize(
    "tokenizer",
    [
        pieces(),
        pieces(normalizer=REPLACE),
        pieces(normalizer=None, pre_tokenizer=metaspace("never")),
        pieces(normalizer=sequence(sequence(PREPEND), REPLACE), pre_tokenizer=metaspace("never")),
        letters(),
        letters(normalizer=sequence({"type": "NFC"}), pre_tokenizer=None),
        letters(added_tokens=[added(i, t, normalized=True) for i, t in enumerate(["<s>", "</s>", "<|t|>"])]),
    ],
    ids=["prepended", "replaced", "metaspace", "nested", "bytes", "composed", "normalized"],
)
def test_a_file_reads_every_text_as_its_model_does(tmp_path, tokenizer):
    if tokenizer.get("pre_tokenizer", "") is None:  # Qwen's, behind NFC.
        tokenizer["pre_tokenizer"] = qwen(behavior="Removed", invert=True)
    engine = made(tokenizer)
    engine.save(tmp_path / "model.gguf", "f32")
    file = _native.Engine.load(tmp_path / "model.gguf", 1)
    for text in TEXTS:
        for whole in (True, False):
            assert file.encode(text, whole) == engine.encode(text, whole), text


def qwen(**changes: Any) -> dict[str, Any]:
    regex = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} | changes
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, level]}


LOWERCASE = {"type": "Lowercase"}
LEVEL = letters()["pre_tokenizer"]
DIGITS = {"type": "Digits", "individual_digits": True}
REFUSED = {
    "lowercase": (pieces(normalizer=sequence(LOWERCASE, PREPEND, REPLACE)), "normalizer Lowercase"),
    "strip": (
        pieces(normalizer=sequence({"type": "Strip", "strip_left": True, "strip_right": True}, PREPEND, REPLACE)),
        "normalizer Strip",
    ),
    "blanks": (
        pieces(normalizer=sequence(replace({"Regex": " {2,}"}, " "), PREPEND, REPLACE)),
        "normalizer Replace of other texts",
    ),
    "quotes": (
        pieces(normalizer=sequence(replace({"String": "``"}, '"'), PREPEND, REPLACE)),
        "normalizer Replace",
    ),
    "accents": (
        pieces(normalizer=sequence({"type": "NFD"}, {"type": "StripAccents"}, PREPEND, REPLACE)),
        "normalizer NFD",
    ),
    "composed": (pieces(normalizer=sequence({"type": "NFKC"}, PREPEND, REPLACE)), "normalizer NFKC"),
    "prepended": (
        pieces(normalizer=sequence({"type": "Prepend", "prepend": "x"}, REPLACE)),
        "normalizer Prepend of other texts",
    ),
    "order": (pieces(normalizer=sequence(REPLACE, PREPEND, REPLACE)), "normalizers are not llama.cpp's"),
    "unspaced": (pieces(normalizer=None), "normalizers are not llama.cpp's"),
    "first": (pieces(normalizer=None, pre_tokenizer=metaspace("first")), 'prepend_scheme "first"'),
    "always": (pieces(normalizer=None, pre_tokenizer=metaspace("always")), 'prepend_scheme "always"'),
    "split": (pieces(normalizer=None, pre_tokenizer=metaspace("never", True)), "split true"),
    "whitespace": (pieces(pre_tokenizer={"type": "WhitespaceSplit"}), "pre-tokenizer WhitespaceSplit"),
    "lstrip": (pieces(added_tokens=[added(3, "<|t|>", lstrip=True)]), '"<|t|>" is besides special: lstrip'),
    "rstrip": (pieces(added_tokens=[added(3, "<|t|>", rstrip=True)]), "rstrip"),
    "single_word": (pieces(added_tokens=[added(3, "<|t|>", single_word=True)]), "single_word"),
    "normalized": (pieces(added_tokens=[added(3, "<|t|>", normalized=True)]), "normalized"),
    "bytes lstrip": (letters(added_tokens=[added(2, "<|t|>", lstrip=True, special=False)]), "lstrip"),
    "bytes rstrip": (letters(added_tokens=[added(2, "<|t|>", rstrip=True)]), "rstrip"),
    "bytes single_word": (letters(added_tokens=[added(2, "<|t|>", single_word=True)]), "single_word"),
    "bytes lowercase": (letters(normalizer=sequence({"type": "NFC"}, LOWERCASE)), "normalizer Lowercase"),
    "bytes replace": (letters(normalizer=replace({"String": "a"}, "b")), "normalizer Replace"),
    "bytes prefix": (letters(pre_tokenizer=LEVEL | {"add_prefix_space": True}), "add_prefix_space"),
    "bytes merged": (letters(pre_tokenizer=qwen(behavior="MergedWithPrevious")), "MergedWithPrevious"),
    "bytes behind": (
        letters(pre_tokenizer={"type": "Sequence", "pretokenizers": [LEVEL, DIGITS]}),
        "step Digits behind",
    ),
    # No shape says these: the file is read back.
    "no end": (letters(added_tokens=[added(2, "<|t|>")]), 'other tokens of "</s>'),
    "unknown": (
        letters(model={"type": "BPE", "unk_token": "<s>", "vocab": {"<s>": 0, "</s>": 1, "<|t|>": 2}, "merges": []}),
        "other tokens of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_does_not_do_to_a_text_is_refused_by_name(tmp_path, name):
    tokenizer, words = REFUSED[name]
    with pytest.raises(CheckpointError) as caught:
        made(tokenizer).save(tmp_path / "model.gguf", "f32")
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_characters_is_written_where_nothing_comes_before_it(tmp_path):
    tokenizer = json.loads((SEED / "tokenizer.json").read_text())
    config = (SEED / "config.json").read_text()
    for part, value, words in [
        ("normalizer", LOWERCASE, "normalizer Lowercase"),
        ("pre_tokenizer", {"type": "Whitespace"}, "pre-tokenizer Whitespace"),
    ]:
        engine = _native.Engine.create(config, json.dumps(tokenizer | {part: value}), 1, 1)
        with pytest.raises(CheckpointError, match=words):
            engine.save(tmp_path / "model.gguf", "f32")
    assert list(tmp_path.iterdir()) == []
