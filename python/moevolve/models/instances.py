"""JSON values held against a JSON schema: what of it a value breaks, in a sentence.

Of the draft 2020-12 vocabulary the assertions that tools and answers are declared with; annotations, formats and patterns
assert nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

MOST_STEPS = 50_000
"""Pairs of a value and a schema that are compared, each member, branch, allowed value and required name counted as one: a
schema of a few references can stand for more than anybody could follow."""
DEEPEST = 150
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
    try:
        found = _Comparison(schema if root is None else root).breaks(value, schema, "", DEEPEST)
    except _TooLarge:
        return "its schema takes too many steps to follow"
    return None if found is None else found()


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


Finding = Callable[[], str]
"""A sentence that is made where somebody reads it."""


class _TooLarge(Exception):
    """A schema that is not followed to its end."""


class _Comparison:
    """Values held against schemas of one root. What has been compared at a place is not compared there again, and fits
    while it is being compared: a schema that refers to itself asks for nothing by that.

    Args:
        root: what references point into.
    """

    def __init__(self, root: Any) -> None:
        self.steps = 0
        self._root = root
        self._known: dict[tuple[int, int, str], Finding | None] = {}
        self._named: dict[str, Any] = {}

    def breaks(self, value: Any, schema: Any, where: str, depth: int) -> Finding | None:
        """What of a schema a value breaks first.

        Raises:
            _TooLarge: it takes too many steps, or nests too deep, to tell.
        """
        if schema is False:
            return lambda: f"{where or 'it'} may not be there"
        if not isinstance(schema, Mapping):
            return None
        pair = (id(value), id(schema), where)
        if pair not in self._known:
            self._step()
            if not depth:
                raise _TooLarge
            self._known[pair] = None
            self._known[pair] = (
                self._referred(value, schema, where, depth - 1)
                or self._own(value, schema, where or "it")
                or self._combined(value, schema, where, depth - 1)
                or next(_size(value, schema, where or "it"), None)
                or self._inside(value, schema, where, depth - 1)
            )
        return self._known[pair]

    def _step(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise _TooLarge

    def _referred(self, value: Any, schema: Mapping[str, Any], where: str, depth: int) -> Finding | None:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return None
        if reference not in self._named:
            self._named[reference] = resolved(reference, self._root)
        return self.breaks(value, self._named[reference], where, depth)

    def _own(self, value: Any, schema: Mapping[str, Any], at: str) -> Finding | None:
        declared = schema.get("type")
        names = declared if isinstance(declared, list) else [declared]
        self._step(len(names))
        known = [name for name in names if isinstance(name, str) and name in TYPES]
        null = value is None and schema.get("nullable") is True
        if known and len(known) == len(names) and not null and not any(_is(value, name) for name in known):
            return lambda: f"{at} should be {' or '.join(known)}, not {shown(value)}"
        if isinstance(allowed := schema.get("enum"), list):
            self._step(len(allowed))
            if not any(same(value, one) for one in allowed):
                return lambda: (
                    f"{at} should be one of {', '.join(map(shown, allowed[:8]))}, not {shown(value)}"
                )
        if "const" in schema and not same(value, schema["const"]):
            return lambda: f"{at} should be {shown(schema['const'])}, not {shown(value)}"
        return None

    def _combined(self, value: Any, schema: Mapping[str, Any], where: str, depth: int) -> Finding | None:
        at = where or "it"
        everyone = _list(schema, "allOf")
        self._step(len(everyone))
        for branch in everyone:
            if (found := self.breaks(value, branch, where, depth)) is not None:
                return found
        for keyword in ("anyOf", "oneOf"):
            branches = _list(schema, keyword)
            self._step(len(branches))
            fits = [self.breaks(value, one, where, depth) for one in branches].count(None)
            if branches and (not fits or (keyword == "oneOf" and fits > 1)):
                return partial(_count_of_forms, at, fits, len(branches), keyword)
        if "not" in schema and self.breaks(value, schema["not"], where, depth) is None:
            return lambda: f"{at} has a form that is excluded"
        return None

    def _inside(self, value: Any, schema: Mapping[str, Any], where: str, depth: int) -> Finding | None:
        if isinstance(value, dict):
            required = _list(schema, "required")
            self._step(len(required) + len(value))
            missing = next((name for name in required if isinstance(name, str) and name not in value), None)
            if missing is not None:
                return lambda: f"{_member(where, missing)} is missing"
            rules = _members(value, schema, where)
        elif isinstance(value, list | tuple):
            self._step(len(value))
            rules = _items(value, schema, where)
        else:
            return None
        for one, rule, place in rules:
            if (found := self.breaks(one, rule, place, depth)) is not None:
                return found
        return None


def _count_of_forms(at: str, fits: int, forms: int, keyword: str) -> str:
    return f"{at} fits {fits or 'none'} of the {forms} forms of {keyword}"


def _items(value: Sequence[Any], schema: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any, str]]:
    """The items of an array, each with what is declared about it."""
    first, others = _list(schema, "prefixItems"), schema.get("items")
    for index, one in enumerate(value):
        yield one, first[index] if index < len(first) else others, f"{where}[{index}]"


def _members(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any, str]]:
    """The members of an object that something is declared about, with that."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    others = schema.get("additionalProperties")
    patterned = "patternProperties" in schema
    for name, one in value.items():
        if name in properties:
            yield one, properties[name], _member(where, name)
        elif not patterned:
            yield one, others, _member(where, name)


def _size(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[Finding]:
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
            yield lambda: f"{at} should be above {least}, not {shown(value)}"
        if _number(most) and value >= most:
            yield lambda: f"{at} should be below {most}, not {shown(value)}"
    if size is None:
        return
    if _number(schema.get(low)) and size < schema[low]:
        yield lambda: f"{at} should be at least {schema[low]} {of}".rstrip() + f", not {shown(size)}"
    if _number(schema.get(high)) and size > schema[high]:
        yield lambda: f"{at} should be at most {schema[high]} {of}".rstrip() + f", not {shown(size)}"


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
