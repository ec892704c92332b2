"""Plans typed again: an answer comes from the policy's completions alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moevolve.auditor.plans import foreign

ASK = ["ask", ["prompt"]]
PART = ["ask", ["concat", [["literal", "rev:"], ["variable", 0], ["literal", "="]]]]
CUT = ["cut", ["payload"], 3, "even", 4]

HONEST: dict[str, Any] = {
    "asking": ASK,
    "parts": ["join", ["backwards", ["each", CUT, [0, PART]]], False],
    "a fold": ["fold", CUT, [0, PART], [0, ["ask", ["concat", [["variable", 0], ["variable", 1]]]]]],
    "a vote": ["vote", [["prompt"]], 8, 0.7, 0.5, ASK],
    "a check": ["verify", ["prompt"], 4, 0.7, [0, PART], ["payload"]],
    "a slice": ["slice", ASK, 1, None],
    "trying again": ["retry", ["prompt"], 4, 0.7],
    "a window": ["window", ["payload"], 2, 2, [0, PART], [0, PART]],
}
FOREIGN: dict[str, Any] = {
    "a constant": ["literal", "7"],
    "the task": ["payload"],
    "the task in parts": ["join", ["each", CUT, [0, ["variable", 0]]], False],
    "the task's operand": ["operand", ["payload"], 0],
    "a lesson": ["lessons", 1],
    "a lesson by words": ["lessons", 1, 0.5],
    "a constant beside an answer": ["concat", [ASK, ["literal", "0"]]],
    "a vote that falls back on the task": ["vote", [["prompt"]], 8, 0.7, 0.9, ["payload"]],
    "a fold that begins with the task": ["fold", CUT, [0, ["variable", 0]], [0, PART]],
    "a slice of the task": ["slice", ["prompt"], 4, None],
    "a window's number": ["window", ["payload"], 2, 2, [0, PART], [0, ["variable", 0]]],
    "a variable of nowhere": ["variable", 3],
    "an unknown expression": ["exec", "1"],
    "nothing": [],
    "a number": 7,
    "a nest": json.loads("[" * 200 + "]" * 200),
}


@pytest.mark.parametrize("name", HONEST)
def test_answers_of_the_policy_are_accepted(name: str) -> None:
    assert foreign(json.dumps(HONEST[name])) is None


@pytest.mark.parametrize("name", FOREIGN)
def test_other_words_are_named(name: str) -> None:
    assert foreign(json.dumps(FOREIGN[name])) is not None


def test_what_is_no_json_is_said() -> None:
    assert foreign("ask") is not None and foreign("\ud800") is not None
