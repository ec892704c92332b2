"""The checker is a boundary: no plan that it lets through has an answer that is not made of whole words of the policy.

The corpus holds forged JSON, not what the builder makes: a program may send whatever it likes.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.agents.plans.check import check
from moevolve.agents.plans.evaluate import Ask, Evaluation, OverBudget
from moevolve.agents.plans.expression import MOST_BYTES, PlanError, decode
from moevolve.agents.plans.values import spelt
from moevolve.tasks.primer.cutters import CUTTERS

ASK = ["ask", ["prompt"]]
CUT = ["cut", ["payload"], 3, "even", 0]
SAME = [0, ["variable", 0]]


def nested(depth: int) -> Any:
    plan: Any = ["prompt"]
    for _ in range(depth):
        plan = ["ask", plan]
    return plan


def doubling(times: int) -> Any:
    plan: Any = ASK
    for _ in range(times):
        plan = ["concat", [plan, plan]]
    return plan


def each_in_each(depth: int) -> Any:
    parts: Any = CUT
    for _ in range(depth):
        parts = ["each", parts, [0, ["ask", ["variable", 0]]]]
    return ["join", parts, False]


HOSTILE: dict[str, Any] = {
    "the prompt itself": ["prompt"],
    "the payload itself": ["payload"],
    "a constant": ["literal", "acdb"],
    "a constant beside the policy's words": ["concat", [ASK, ["literal", "x"]]],
    "the payload beside the policy's words": ["concat", [ASK, ["payload"]]],
    "the payload in parts": ["join", CUT, False],
    "the payload backwards in parts": ["join", ["backwards", CUT], False],
    "parts through nothing": ["join", ["each", CUT, SAME], False],
    "a lesson": ["lessons", 4],
    "a lesson by words": ["lessons", 4, 1.0],
    "a lesson beside an answer": ["concat", [["lessons", 1], ASK]],
    "an operand": ["operand", ["payload"], 0],
    "the sign": ["operand", ["prompt"], 1],
    "a slice of the payload": ["slice", ["payload"], 0, 1],
    "a slice of a constant": ["slice", ["literal", "abc"], 0, 1],
    "a slice of a mixture": ["slice", ["concat", [ASK, ["payload"]]], 1, None],
    "a variable of nobody": ["variable", 0],
    "a variable beyond its binding": ["join", ["each", CUT, [0, ["ask", ["variable", 1]]]], False],
    "a forged first variable": ["join", ["each", CUT, [1, ["variable", 0]]], False],
    "a binding that takes its neighbour's number": [
        "join",
        ["each", ["each", CUT, [0, ["ask", ["variable", 0]]]], [3, ["variable", 0]]],
        False,
    ],
    "a fold that begins with the task": [
        "fold",
        CUT,
        [0, ["variable", 0]],
        [0, ["concat", [["variable", 0], ["variable", 1]]]],
    ],
    "a fold that turns into the task": ["fold", CUT, [0, ["ask", ["variable", 0]]], [0, ["variable", 1]]],
    "a fold that adds the task": [
        "fold",
        CUT,
        [0, ["ask", ["variable", 0]]],
        [0, ["concat", [["variable", 0], ["variable", 1]]]],
    ],
    "a vote that falls back on the task": ["vote", [["prompt"]], 4, 0.7, 1.0, ["payload"]],
    "a vote that falls back on a constant": ["vote", [["prompt"]], 4, 0.7, 1.0, ["literal", "1"]],
    "a verification by nothing": ["verify", ["prompt"], 4, 0.7, [0, ["variable", 0]], ["payload"]],
    "a verification by a constant": ["verify", ["prompt"], 4, 0.7, [0, ["literal", "x"]], ["payload"]],
    "a verification against a constant": [
        "verify",
        ["prompt"],
        4,
        0.7,
        [0, ["ask", ["variable", 0]]],
        ["literal", "abc"],
    ],
    "a verification against an answer": ["verify", ["prompt"], 4, 0.7, [0, ["ask", ["variable", 0]]], ASK],
    "a verification that shows the task on the way back": [
        "verify",
        ["prompt"],
        4,
        0.7,
        [0, ["slice", ["variable", 0], 0, None]],
        ["payload"],
    ],
    "a window that says the number": ["window", ["payload"], 2, 0, SAME, SAME],
    "a window that says one number": ["window", ["payload"], 2, 0, [0, ["ask", ["variable", 0]]], SAME],
    "a window of one digit": ["window", ["payload"], 1, 0, [0, ASK], [0, ASK]],
    "parts of one character": ["join", ["each", ["cut", ["payload"], 1, "even", 0], [0, ASK]], False],
    "runs of two": ["join", ["each", ["cut", ["payload"], 2, "change", 0], [0, ASK]], False],
    "ranges of two": ["join", ["each", ["cut", ["payload"], 2, "range", 0], [0, ASK]], False],
    "a cutter that nobody grants": ["join", ["each", ["cut", ["payload"], 3, "sorted", 0], [0, ASK]], False],
    "a cutter by a dunder": ["join", ["each", ["cut", ["payload"], 3, "__class__", 0], [0, ASK]], False],
    "NUL in a constant": ["ask", ["literal", "a\0b"]],
    "an escape in a constant": ["ask", ["literal", "\x1b[2J"]],
    "a bidi mark in a constant": ["ask", ["literal", "a\u202eb"]],
    "a long constant": ["ask", ["literal", "x" * 257]],
    "a billion samples": ["vote", [["prompt"]], 10**9, 0.7, 0.0, None],
    "no samples": ["vote", [["prompt"]], 0, 0.7, 0.0, None],
    "a negative number of samples": ["retry", ["prompt"], -1, 0.7],
    "a negative temperature": ["vote", [["prompt"]], 4, -0.1, 0.0, None],
    "a hot temperature": ["vote", [["prompt"]], 4, 1e300, 0.0, None],
    "a share above one": ["vote", [["prompt"]], 4, 0.7, 1.1, ASK],
    "truth as a number": ["cut", ["payload"], True, "even", 0],
    "a list where a text stands": CUT,
    "a text where a list stands": ["join", ["payload"], False],
    "an empty concatenation": ["concat", []],
    "no prompts": ["vote", [], 4, 0.7, 0.0, None],
    "too many prompts": ["vote", [["prompt"]] * 9, 4, 0.7, 0.0, None],
    "an operation of nobody": ["eval", "1"],
    "no operation": [],
    "a null": None,
    "an object": {"op": "ask"},
    "a string": "prompt",
    "one field too many": ["ask", ["prompt"], 1],
    "one field too few": ["slice", ASK, 0],
    "a hundred levels": nested(100),
    "four million expressions": doubling(11),
    "thirty-nine lists in lists": each_in_each(39),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_plan_is_refused(name: str) -> None:
    with pytest.raises(PlanError):
        check(decode(json.dumps(HOSTILE[name])), CUTTERS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"[" * 100_000,
        b'["ask",["prompt"]]x',
        b'["vote",[["prompt"]],4,NaN,0,null]',
        b'["vote",[["prompt"]],4,Infinity,0,null]',
        b'["ask",["literal","\xff"]]',
        b'["ask",["literal","\\ud800"]]',
        b" " * (MOST_BYTES + 1),
    ],
)
def test_what_is_no_json_of_a_plan_is_refused(data: bytes) -> None:
    with pytest.raises(PlanError):
        check(decode(data), CUTTERS)


def test_the_error_says_what_is_in_the_answer_and_what_is_granted() -> None:
    with pytest.raises(PlanError, match="holds: task"):
        check(decode('["payload"]'), CUTTERS)
    with pytest.raises(PlanError, match="it grants change, columns, even"):
        check(decode(json.dumps(HOSTILE["a cutter that nobody grants"])), CUTTERS)


# ---------------------------------------------------------------------- whatever passes is the policy's

WORD = "⟨{}⟩"
"""An answer of the scripted policy: marks that stand nowhere in a task or a constant."""


def expressions() -> st.SearchStrategy[Any]:
    """Any JSON in the shape of plans, right or wrong."""
    leaves = st.sampled_from(
        [["prompt"], ["payload"], ["literal", "rev:"], ["lessons", 2], *[["variable", n] for n in range(4)]]
    )
    samples, heat = st.integers(1, 4), st.sampled_from([0.0, 0.7])

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        binding = st.tuples(st.integers(0, 3), inner).map(list)
        cut = st.tuples(
            st.just("cut"), inner, st.integers(2, 4), st.sampled_from(list(CUTTERS)), st.integers(0, 6)
        )
        parts = st.one_of(
            cut.map(list),
            st.tuples(st.just("each"), cut.map(list), binding).map(list),
            st.tuples(st.just("backwards"), cut.map(list)).map(list),
        )
        ends = st.one_of(st.none(), st.integers(-3, 3))
        return st.one_of(
            st.tuples(st.just("ask"), inner).map(list),
            st.tuples(st.just("concat"), st.lists(inner, min_size=1, max_size=3)).map(list),
            st.tuples(st.just("slice"), inner, ends, ends).map(list),
            st.tuples(st.just("operand"), inner, st.integers(0, 2)).map(list),
            st.tuples(
                st.just("vote"), st.lists(inner, min_size=1, max_size=2), samples, heat, st.just(0.9), inner
            ).map(list),
            st.tuples(st.just("verify"), inner, samples, heat, binding, inner).map(list),
            st.tuples(st.just("retry"), inner, samples, heat).map(list),
            st.tuples(st.just("window"), inner, st.integers(2, 3), st.integers(0, 4), binding, binding).map(
                list
            ),
            st.tuples(st.just("fold"), parts, binding, binding).map(list),
            st.tuples(st.just("join"), parts, st.booleans()).map(list),
        )

    return st.recursive(leaves, grow, max_leaves=12)


@settings(max_examples=600)
@given(expressions(), st.sampled_from(["rev:bdcaij=", "add:357+120=", "cmp:71542,71983=", "rev:=", "x"]))
def test_an_answer_that_passes_is_made_of_whole_words_or_their_ends(plan: Any, prompt: str) -> None:
    try:
        checked = decode(json.dumps(plan))
        check(checked, CUTTERS)
    except PlanError:
        return
    said: list[str] = []

    def reply(ask: Ask) -> list[str]:
        said.extend(WORD.format(chr(0x4E00 + len(said) + index)) for index in range(ask.n))
        return said[-ask.n :]

    run = Evaluation(prompt, CUTTERS, lambda k, words: "sol:v=ed;").text(checked)
    try:
        asks = next(run)
        while True:
            asks = run.send([reply(ask) for ask in asks])
    except StopIteration as stop:
        value = stop.value
    except OverBudget:
        return
    assert said, "the policy was never asked"
    assert set(value.text) <= set("".join(said))
    whole = [piece for piece in value.pieces if piece.text]
    assert all(piece.text in said for piece in whole)
    assert all(value.text[piece.start : piece.start + len(piece.text)] == piece.text for piece in whole)
    assert not spelt(value) or len(value.pieces) > len(value.text) / 1.5
