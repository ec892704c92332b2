"""What a request says about the form of its answer, under every name that clients have for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.journal.text import line
from moevolve.models import constraints
from moevolve.protocol.sampling import Constraint
from moevolve.serve.failures import unsupported, wrong

OBJECT = {"type": "object"}
MOST_NAME = 60
"""Characters of a field's name in an error."""


def constraint_of(request: Any) -> Constraint | None:
    """The form that the answer is held to, None where there is none.

    Args:
        request: a completion or a chat.

    Raises:
        RequestError: names the field.
    """
    found: dict[str, Constraint] = {}
    for name, build in _FIELDS.items():
        value = getattr(request, name)
        if value is None:
            continue
        try:
            constraint = build(value)
        except UsageError as error:
            raise wrong(name, str(error)) from error
        if constraint is not None:
            found[name] = constraint
    if len(found) > 1:
        raise wrong(list(found)[1], f"it and `{next(iter(found))}` are there, and an answer has one form")
    return next(iter(found.values()), None)


def _response_format(value: dict[str, Any]) -> Constraint | None:
    given = {name: one for name, one in value.items() if one is not None}
    kind = given.pop("type", "text")
    match kind:
        case "text":
            _only("response_format", given, ())
            return None
        case "json_object":
            # With a schema as llama.cpp and those after it have it.
            _only("response_format", given, ("schema",))
            return _schema(given.get("schema", OBJECT))
        case "json_schema":
            if "json_schema" not in given:
                if "schema" not in given:
                    raise wrong("response_format", "`json_schema` is missing: an object with a `schema`")
                _only("response_format", given, _NAMED)
                return _schema(given["schema"])
            _only("response_format", given, ("json_schema",))
            inner = given["json_schema"]
            if not isinstance(inner, dict):
                raise wrong("response_format", "`json_schema` is an object with a `schema`")
            _only("response_format.json_schema", inner, _NAMED)
            return _schema(inner.get("schema", OBJECT))
        case other:
            raise unsupported("response_format", f"`text`, `json_object` or `json_schema`, not {other!r}")


_NAMED = ("schema", "name", "description", "strict")
"""What stands beside a schema; all but the schema itself change no answer."""


def _only(where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuses what an object holds beside what is known."""
    unknown = [name for name in given if given[name] is not None and name not in known]
    if unknown:
        raise unsupported(f"{where}.{line(unknown[0], MOST_NAME)}", "it is no part of this form")


def _schema(value: Any) -> Constraint:
    if value is True or isinstance(value, dict):
        return constraints.json_schema(value)
    if isinstance(value, str):
        return Constraint("json", _parsed(value))
    raise UsageError("a JSON schema is an object")


def _parsed(text: str) -> str:
    try:
        return constraints.json_schema(msgspec.json.decode(text.encode(), type=dict[str, Any])).source
    except msgspec.DecodeError as error:
        raise UsageError(f"a JSON schema is an object: {error}") from error


def _text(build: Callable[[str], Constraint]) -> Callable[[Any], Constraint]:
    def built(value: Any) -> Constraint:
        if not isinstance(value, str):
            raise UsageError("a text")
        return build(value)

    return built


def _choice(value: Any) -> Constraint:
    if not isinstance(value, list):
        raise UsageError("a list of texts")
    return constraints.choice(value)


def _structured(value: Any) -> Constraint | None:
    """vLLM's object of one of several forms."""
    if not isinstance(value, dict):
        raise wrong("structured_outputs", "an object with `json`, `regex`, `choice` or `grammar`")
    given = {name: one for name, one in value.items() if one is not None and name not in _STYLE}
    if unknown := given.keys() - _STRUCTURED.keys():
        raise unsupported(f"structured_outputs.{min(unknown)}", f"one of {', '.join(_STRUCTURED)}")
    if len(given) != 1:
        raise wrong("structured_outputs", f"one of {', '.join(_STRUCTURED)}")
    ((name, one),) = given.items()
    return _STRUCTURED[name](one)


def _json_object(value: Any) -> Constraint | None:
    return constraints.json_schema(OBJECT) if value is True else None


_STYLE = ("disable_any_whitespace", "disable_fallback", "disable_additional_properties", "whitespace_pattern")
_STRUCTURED: dict[str, Callable[[Any], Constraint | None]] = {
    "json": _schema,
    "regex": _text(constraints.regex),
    "choice": _choice,
    "grammar": _text(constraints.grammar),
    "json_object": _json_object,
}
_FIELDS: dict[str, Callable[[Any], Constraint | None]] = {
    "response_format": _response_format,
    "guided_json": _schema,
    "guided_regex": _text(constraints.regex),
    "guided_choice": _choice,
    "guided_grammar": _text(constraints.grammar),
    "structured_outputs": _structured,
    "json_schema": _schema,
    "grammar": _text(constraints.grammar),
}
FIELDS = tuple(_FIELDS)
"""The names under which a form is asked for."""


def field_of(request: Any) -> str:
    """The name under which a request asks for a form; `tools` where it asks for none and has to call."""
    given = (name for name in FIELDS if getattr(request, name) is not None)
    return next((name for name in given if request.constraint is not None), "tools")
