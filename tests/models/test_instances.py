"""Values held against schemas that refer to one another."""

from __future__ import annotations

from typing import Any

import pytest

from moevolve.models import instances
from moevolve.models.instances import misfit
from moevolve.models.parameters import Signatures

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}},
            "additionalProperties": {"type": "integer"},
        }
    },
}


def chain(links: int, keyword: str = "allOf") -> dict[str, Any]:
    """A schema of so many links, each of which asks for the one before it twice."""
    definitions: dict[str, Any] = {"a0": {"type": "object"}}
    for link in range(1, links):
        before = {"$ref": f"#/$defs/a{link - 1}"}
        definitions[f"a{link}"] = {keyword: [before, dict(before)]}
    return {"$ref": f"#/$defs/a{links - 1}", "$defs": definitions}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf"])
def test_a_chain_takes_steps_as_it_is_long(monkeypatch: pytest.MonkeyPatch, keyword: str) -> None:
    monkeypatch.setattr(instances, "MOST_STEPS", 10 * 40)
    assert misfit({}, chain(40, keyword)) is None
    expected = "should be object, not []" if keyword == "allOf" else "fits none of the 2 forms of anyOf"
    assert misfit([], chain(40, keyword)) == f"it {expected}"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_schema_asks_for_nothing_by_referring_to_itself(
    monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any]
) -> None:
    monkeypatch.setattr(instances, "MOST_STEPS", 20)
    assert misfit({"a": 1}, schema) is None
    assert misfit({"a": 1}, {**schema, "type": "array"}) == "it should be array, not {'a': 1}"


def test_a_value_is_held_to_a_schema_that_holds_itself() -> None:
    assert misfit({"left": {"right": {"size": 1}}, "right": {}}, TREE) is None
    found = misfit({"left": {"right": {"size": "big"}}, "right": {}}, TREE)
    assert found == "left.right.size should be integer, not 'big'"


def test_what_breaks_a_schema_is_named_where_it_stands() -> None:
    """However often the same value comes, and whoever compared it first."""
    either = {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}]}
    small = {"type": "integer", "maximum": 4}
    schema = {**either, "properties": {"a": small, "b": small}}
    assert misfit({"a": "x", "b": 5}, schema) == "a should be integer, not 'x'"
    assert misfit([5, 5], {"items": small, "prefixItems": [True]}) == "[1] should be at most 4, not 5"


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ([0] * 1000, {"items": {"enum": [*range(1000, 0, -1), 0]}}),
        ([[0] * 100] * 100, {"items": {"items": {"anyOf": [{"minimum": 1}] * 9 + [True]}}}),
        (0, {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(5000)}}),
    ],
)
def test_what_would_take_too_long_to_follow_is_a_finding(value: Any, schema: Any) -> None:
    assert misfit(value, schema) == "its schema takes too many steps to follow"


def test_types_of_a_parameter_are_found_in_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def resolved(reference: str, root: Any) -> Any:
        looked.append(reference)
        return instances.resolved(reference, root)

    monkeypatch.setattr("moevolve.models.parameters.resolved", resolved)
    linked = chain(20)
    linked["$defs"]["a0"] = {"type": ["integer", "null"]}
    parameters = {"properties": {"a": {"$ref": linked["$ref"]}, "b": {"$ref": "#/properties/b"}}, **linked}
    signatures = Signatures([{"name": "f", "parameters": parameters}])
    assert signatures.types("f", "b") == frozenset()
    assert signatures.types("f", "a") == {"integer", "null"}
    assert len(looked) == 2 * 20
