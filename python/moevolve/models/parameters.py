"""Values that a model writes as text, read by the JSON schema that its tool declares for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Never

from moevolve.models.instances import misfit, resolved

STRING = frozenset({"string"})
_KNOWN = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})

_ALIASES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
_DEEPEST = 64
"""Levels of JSON that are read; whoever writes it out again has to follow."""

_NESTED = 64
"""Depth to which a schema is followed."""


def read_json(text: str) -> Any:
    """Strict JSON whose texts are Unicode.

    Raises:
        ValueError: it is none, is nested too deep, or holds NaN, an infinity, or half of a character.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if text.count("[") + text.count("{") > _DEEPEST and _deeper(value, _DEEPEST):
        raise ValueError("it is nested too deep")
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # an escaped half of a character raises a ValueError
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested in more levels; works level by level, as deep ones would exhaust the stack."""
    row = [value]
    for _ in range(levels):
        row = [
            inner
            for outer in row
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, dict | list) for inner in row)


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


class Signatures:
    """The declared parameters of a set of tools.

    Args:
        tools: each `{"type": "function", "function": {"name", "parameters"}}`, or the inner object alone; None where it is
            not known what was offered.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]] | None) -> None:
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._types: dict[int, set[str]] = {}
        """What has been found of each schema, by its identity."""
        self._names: set[str] | None = None if tools is None else set()
        for tool in tools or ():
            function = tool.get("function", tool)
            parameters = function.get("parameters")
            if self._names is not None:
                self._names.add(str(function.get("name")))
            if isinstance(parameters, Mapping):
                self._schemas[str(function.get("name"))] = parameters

    def problem(self, tool: str, arguments: dict[str, Any]) -> str | None:
        """Why a call is none: nobody offered the tool, or its schema does not allow the arguments."""
        if self._names is not None and tool not in self._names:
            return f"no tool {tool!r} was offered"
        why = misfit(arguments, self._schemas.get(tool))
        return None if why is None else f"its arguments: {why}"

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """JSON types that a parameter may have; none where nothing is declared."""
        root = self._schemas.get(tool, {})
        properties = root.get("properties")
        if not isinstance(properties, Mapping):
            return frozenset()
        return frozenset(_types(properties.get(parameter), root, self._types, _NESTED))


def _types(schema: Any, root: Mapping[str, Any], known: dict[int, set[str]], depth: int) -> set[str]:
    """Types that a schema allows; one that refers to itself adds none by that."""
    if not isinstance(schema, Mapping) or not depth:
        return set()
    if id(schema) not in known:
        known[id(schema)] = set()
        known[id(schema)] = _own_types(schema, root, known, depth)
    return known[id(schema)]


def _own_types(
    schema: Mapping[str, Any], root: Mapping[str, Any], known: dict[int, set[str]], depth: int
) -> set[str]:
    found: set[str] = set()
    declared = schema.get("type")
    for name in declared if isinstance(declared, list) else [declared]:
        if isinstance(name, str):
            found.add(_ALIASES.get(name.lower(), name.lower()))
    for keyword in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(keyword)
        for branch in branches if isinstance(branches, list) else ():
            found |= _types(branch, root, known, depth - 1)
    if isinstance(reference := schema.get("$ref"), str):
        found |= _types(resolved(reference, root), root, known, depth - 1)
    if not found:
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        found |= {_type_of(value) for value in values if isinstance(values, list)}
    if not found and "properties" in schema:
        found.add("object")
    if not found and "items" in schema:
        found.add("array")
    if found and schema.get("nullable") is True:
        found.add("null")
    return found


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    kinds = ((str, "string"), (int, "integer"), (float, "number"), (Mapping, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")


def read_value(text: str, types: frozenset[str]) -> Any:
    """A parameter's value: raw where it may only be a string or nothing is declared, else JSON of a declared type.

    Where a string is one type of several, the others are tried first.

    Raises:
        ValueError: no declared type allows it; the message says which ones there are.
    """
    if not types or types == STRING:
        return text
    word = text.strip()
    if "boolean" in types and word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        value = read_json(word)
    except ValueError:
        pass
    else:
        kind = _type_of(value)
        if kind == "number" and "integer" in types and "number" not in types and value.is_integer():
            return int(value)
        if kind != "string" and (kind in types or (kind == "integer" and "number" in types)):
            return value
        if not types & _KNOWN:
            return value  # a type of no known name restricts nothing
    if "string" in types or not types & _KNOWN:
        return text
    shown = word if len(word) <= 40 else f"{word[:40]}..."
    raise ValueError(f"should be {' or '.join(sorted(types))}, not {shown!r}")
