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
NEUTRAL = {
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "n": 1,
    "temperature": 1.0,
}
"""Values that ask for what a server does without the field. The first are those that requests of a run change least."""

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
_TOGETHER = re.compile(
    r"\b(?:both|either|together|only one of|mutually|exclusive|at the same time|alongside|in addition to)\b"
    r"|\b(?:simultaneous|combin|conflict)"
    r"|\b(?:when|if|while|with)\b.*\b(?:set|specified|used|given|provided)\b",
    re.IGNORECASE,
)
"""Words of a refusal that takes each field, but not one beside the other."""
_DEEPEST = 8


def named(body: bytes) -> tuple[str, ...]:
    """The fields that a refusal is about, the likeliest first; none for a prompt that is too long, or an unknown form.

    Errors of servers have as many shapes as there are servers: what stands under a key that says so is a field's name,
    then what a text says, then what is a key itself: some repeat the whole request.

    Args:
        body: of an answer with status 400 or 422.
    """
    places, keys, texts = parts(body)
    if any(_TOO_LONG.search(text) for text in texts):
        return ()
    words = [name for text in texts for name in _mentioned(text) if name not in _SHORT]
    words += [name for name, pattern in _SHORT.items() if any(map(pattern.search, texts))]
    return tuple(dict.fromkeys(name for name in (*places, *words, *keys) if name in _KNOWN))


def rivals(body: bytes) -> frozenset[str]:
    """The fields of which a refusal says that one may not stand beside the other; none where it says nothing such.

    Args:
        body: of an answer with status 400 or 422.
    """
    _, _, texts = parts(body)
    found = (
        {name for name in _mentioned(text) if name in _KNOWN} for text in texts if _TOGETHER.search(text)
    )
    return next((frozenset(names) for names in found if len(names) > 1), frozenset())


def parts(body: bytes) -> tuple[list[str], list[str], list[str]]:
    """Names that stand under a key that says so, names that are keys, and texts, of a refusal in any form."""
    try:
        said = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = body.decode("utf-8", "replace")
        if said.lstrip().startswith("<"):
            return [], [], []  # A page says more words than an error has.
    places: list[str] = []
    keys: list[str] = []
    texts: list[str] = []
    _gather(said, places, keys, texts, _DEEPEST)
    return places, keys, texts


def _mentioned(text: str) -> list[str]:
    """Words of a text as fields are spelled, in order; a field that is a word of any sentence only where it is one."""
    words = [_HUMPS.sub("_", word).lower() for word in _WORDS.findall(text)]
    words = [word for word in words if word not in _SHORT]
    return words + [name for name, pattern in _SHORT.items() if pattern.search(text)]


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


def culprit(
    names: Sequence[str],
    sent: Mapping[str, Any],
    refused: Collection[str],
    rivals: Collection[str] = (),
) -> str | None:
    """The field of `sent` that a refusal is about and that the request can do without, None where there is none.

    Of fields that may not stand together it is one whose value asks for nothing: the other one keeps its meaning.

    Args:
        names: the fields that the refusal names, the likeliest first.
        sent: the request's body.
        refused: fields that the server is known to refuse.
        rivals: fields that it refuses beside each other.
    """
    dispensable = [name for name in names if name in sent and RENAMED.get(name) not in refused]
    idle = (
        name for name in NEUTRAL if name in rivals and name in dispensable and sent[name] == NEUTRAL[name]
    )
    return next(idle, next(iter(dispensable), None))


def fitted(body: dict[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """The same request without the fields that its server refuses."""
    kept = {name: value for name, value in body.items() if name not in refused}
    for name in body.keys() & refused & RENAMED.keys():
        kept[RENAMED[name]] = body[name]
    return kept
