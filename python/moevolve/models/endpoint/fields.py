"""Fields that one server refuses: learned from its words, left out or renamed from then on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the most tokens of an answer: one of them is always sent."""
OPTIONAL = ("temperature", "top_p", "seed", "n", "frequency_penalty", "presence_penalty", "logit_bias")
"""Fields that a request can do without: the server then draws as it likes, which stands on record."""

_KNOWN = (*RENAMED, *OPTIONAL)
_WORDS = re.compile(r"[A-Za-z_]+")
_QUOTED_N = re.compile(r"""['"`]n['"`]|\bn\s+(?:must|should|is|may|greater|other)\b|\bn\s*[=<>]""")
_TOO_LONG = re.compile(r"context.?(?:length|window)|maximum context|too (?:long|many tokens)", re.IGNORECASE)


class _Problem(msgspec.Struct):
    message: Any = None
    param: Any = None


class _Body(msgspec.Struct):
    error: Any = None
    detail: Any = None
    message: Any = None
    param: Any = None


def named(body: bytes) -> tuple[str, ...]:
    """The fields that a refusal is about, the likeliest first; none for a prompt that is too long, or an unknown form.

    Args:
        body: of an answer with status 400 or 422.
    """
    try:
        said = msgspec.json.decode(body, type=_Body)
        problem = (
            msgspec.convert(said.error, _Problem) if isinstance(said.error, dict) else _Problem(said.error)
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    params = [problem.param, said.param, *_places(said.detail)]
    texts = [text for text in (problem.message, said.message, said.detail) if isinstance(text, str)]
    if any(_TOO_LONG.search(text) for text in texts):
        return ()
    words = [word for text in texts for word in _WORDS.findall(text) if word != "n"]
    if any(_QUOTED_N.search(text) for text in texts):
        words.append("n")
    found = [str(param).removeprefix("body.") for param in params if param] + words
    return tuple(dict.fromkeys(name for name in found if name in _KNOWN))


def _places(detail: Any) -> list[str]:
    """The last steps of the places that a list of validation errors names, as FastAPI writes it."""
    places = [one.get("loc") for one in detail if isinstance(one, dict)] if isinstance(detail, list) else []
    return [str(place[-1]) for place in places if isinstance(place, list) and place]


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
