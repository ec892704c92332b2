"""Fields that one server refuses: learned from its words, left out or renamed from then on."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the most tokens of an answer: one of them is always sent."""
OPTIONAL = (
    "temperature",
    "top_p",
    "seed",
    "n",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "stop",
)
"""Fields that a request can do without: the server then draws as it likes, which stands on record; texts to stop at are
looked for here."""

_KNOWN = (*RENAMED, *OPTIONAL)
_SAID = ("param", "parameter", "field", "property", "loc", "path", "location")
"""Keys of an error under which servers name the field that it is about."""
_WORDS = re.compile(r"[A-Za-z_]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SHORT = {
    "n": re.compile(
        r"""['"`]n['"`]|\bn\s+(?:must|should|is|may|greater|other)\b|\bn\s*[=<>]|parameter:? n\b"""
        r"|\b(?:only )?one (?:\w+ )?choice\b|\bmultiple (?:choices|completions|candidates)\b",
        re.IGNORECASE,
    ),
    "stop": re.compile(
        r"""['"`]stop['"`]|\bstop (?:sequences?|words?|strings?|tokens?|parameter)\b|^stop\s*:|parameter:? stop\b""",
        re.IGNORECASE,
    ),
}
"""How fields are named that are words of any sentence, too."""
_TOO_LONG = re.compile(r"context.?(?:length|window)|maximum context|too (?:long|many tokens)", re.IGNORECASE)
_DEEPEST = 8


def named(body: bytes) -> tuple[str, ...]:
    """The fields that a refusal is about, the likeliest first; none for a prompt that is too long, or an unknown form.

    Errors of servers have as many shapes as there are servers: what stands under a key that says so is a field's name,
    then what a text says, then what is a key itself: some repeat the whole request.

    Args:
        body: of an answer with status 400 or 422.
    """
    try:
        said = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = body.decode("utf-8", "replace")
        if said.lstrip().startswith("<"):
            return ()  # A page says more words than an error has.
    places: list[str] = []
    keys: list[str] = []
    texts: list[str] = []
    _gather(said, places, keys, texts, _DEEPEST)
    if any(_TOO_LONG.search(text) for text in texts):
        return ()
    words = [_HUMPS.sub("_", word).lower() for text in texts for word in _WORDS.findall(text)]
    words = [word for word in words if word not in _SHORT]
    words += [name for name, pattern in _SHORT.items() if any(map(pattern.search, texts))]
    return tuple(dict.fromkeys(name for name in (*places, *words, *keys) if name in _KNOWN))


def _gather(said: Any, places: list[str], keys: list[str], texts: list[str], deep: int) -> None:
    """Names that stand under a key that says so, names that are keys, and texts, of a value of JSON."""
    if isinstance(said, str):
        texts.append(said)
    elif isinstance(said, list) and deep:
        for each in said:
            _gather(each, places, keys, texts, deep - 1)
    elif isinstance(said, dict) and deep:
        for key, each in said.items():
            keys.append(_last(key))
            if key in _SAID:
                steps = each if isinstance(each, list) else [each]
                places += [_last(step) for step in steps[-1:] if isinstance(step, str)]
            else:
                _gather(each, places, keys, texts, deep - 1)


def _last(place: str) -> str:
    """The last step of a place: `body.seed`, `$.seed` and `/seed` are about `seed`."""
    return re.split(r"[./]", place)[-1]


def culprit(names: Sequence[str], sent: Mapping[str, Any], refused: Collection[str]) -> str | None:
    """The field of `sent` that a refusal is about and that the request can do without, None where there is none."""
    for name in names:
        if name in sent and RENAMED.get(name) not in refused:
            return name
    return None


def fitted(body: dict[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """The same request without the fields that its server refuses."""
    kept = {name: value for name, value in body.items() if name not in refused}
    for name in body.keys() & refused & RENAMED.keys():
        kept[RENAMED[name]] = body[name]
    return kept
