"""JSON values held against a JSON schema: what of it a value breaks, in a sentence.

Of the draft 2020-12 vocabulary the assertions that tools and answers are declared with; annotations, formats and patterns
assert nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

DEEPEST = 64
"""Depth to which a value and its schema are followed."""

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list, tuple),
    "null": (type(None),),
}


def misfit(value: Any, schema: Any, root: Any = None) -> str | None:
    """Why a value is no instance of a schema, None where it is one.

    Args:
        value: the JSON value.
        schema: the schema; `true`, `{}` and anything that is no schema allow every value.
        root: what `#/...` references point into, the schema itself when None.
    """
    return next(_breaks(value, schema, schema if root is None else root, "", DEEPEST), None)


def resolved(reference: str, root: Any) -> Any:
    """What `#` or `#/$defs/Name` names inside `root`; None for anything that is not there."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    place: Any = root
    for step in reference[2:].split("/"):
        if not isinstance(place, Mapping):
            return None
        place = place.get(step.replace("~1", "/").replace("~0", "~"))
    return place


def _breaks(value: Any, schema: Any, root: Any, where: str, depth: int) -> Iterator[str]:
    if schema is False:
        yield f"{where or 'it'} may not be there"
    if not isinstance(schema, Mapping) or not depth:
        return
    at = where or "it"
    if isinstance(reference := schema.get("$ref"), str):
        yield from _breaks(value, resolved(reference, root), root, where, depth - 1)
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared]
    known = [name for name in names if name in TYPES]
    null = value is None and schema.get("nullable") is True
    if known and len(known) == len(names) and not null and not any(_is(value, name) for name in known):
        yield f"{at} should be {' or '.join(known)}, not {shown(value)}"
    if isinstance(allowed := schema.get("enum"), list) and not any(same(value, one) for one in allowed):
        yield f"{at} should be one of {', '.join(map(shown, allowed[:8]))}, not {shown(value)}"
    if "const" in schema and not same(value, schema["const"]):
        yield f"{at} should be {shown(schema['const'])}, not {shown(value)}"
    for branch in _list(schema, "allOf"):
        yield from _breaks(value, branch, root, where, depth - 1)
    for keyword in ("anyOf", "oneOf"):
        branches = _list(schema, keyword)
        fits = sum(next(_breaks(value, one, root, where, depth - 1), None) is None for one in branches)
        if branches and (not fits or (keyword == "oneOf" and fits > 1)):
            yield f"{at} fits {fits or 'none'} of the {len(branches)} forms of {keyword}"
    if "not" in schema and next(_breaks(value, schema["not"], root, where, depth - 1), None) is None:
        yield f"{at} has a form that is excluded"
    yield from _size(value, schema, at)
    if isinstance(value, dict):
        yield from _object(value, schema, root, where, depth - 1)
    elif isinstance(value, list | tuple):
        first = _list(schema, "prefixItems")
        for index, one in enumerate(value):
            rule = first[index] if index < len(first) else schema.get("items")
            yield from _breaks(one, rule, root, f"{where}[{index}]", depth - 1)


def _object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Any, where: str, depth: int
) -> Iterator[str]:
    for name in _list(schema, "required"):
        if isinstance(name, str) and name not in value:
            yield f"{_member(where, name)} is missing"
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    others = schema.get("additionalProperties")
    patterned = "patternProperties" in schema
    for name, one in value.items():
        if name in properties:
            yield from _breaks(one, properties[name], root, _member(where, name), depth)
        elif not patterned:
            yield from _breaks(one, others, root, _member(where, name), depth)


def _size(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    size: Any = None
    if isinstance(value, str):
        size, low, high, of = len(value), "minLength", "maxLength", "characters"
    elif isinstance(value, list | tuple):
        size, low, high, of = len(value), "minItems", "maxItems", "items"
    elif isinstance(value, dict):
        size, low, high, of = len(value), "minProperties", "maxProperties", "members"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        size, low, high, of = value, "minimum", "maximum", ""
        least, most = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if _number(least) and value <= least:
            yield f"{at} should be above {least}, not {shown(value)}"
        if _number(most) and value >= most:
            yield f"{at} should be below {most}, not {shown(value)}"
    if size is None:
        return
    if _number(schema.get(low)) and size < schema[low]:
        yield f"{at} should be at least {schema[low]} {of}".rstrip() + f", not {shown(size)}"
    if _number(schema.get(high)) and size > schema[high]:
        yield f"{at} should be at most {schema[high]} {of}".rstrip() + f", not {shown(size)}"


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def shown(value: Any) -> str:
    """A value in an error's sentence."""
    text = (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= 40 else f"{text[:40]}..."


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return found if isinstance(found, list) else []


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _member(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
