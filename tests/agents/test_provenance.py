"""What counts as the policy's answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.agents.provenance import SHORTEST_MEAN, built_from


@pytest.mark.parametrize(
    ("answer", "completions", "allowed"),
    [
        ("cba", ["cba"], True),
        ("cba", [" cba "], True),
        ("defabc", ["abc", "def"], True),
        ("abab", ["ab"], True),
        ("abcab", ["ab", "c"], True),
        ("7", ["7"], True),
        ("abcd", ["abc"], False),
        ("ab", ["abc"], False),
        ("", [], False),
        ("", ["abc"], False),
        ("", [""], True),
        ("cab", ["a", "b", "c"], False),
        ("hello", list("abcdefghijklmnopqrstuvwxyz"), False),
        ("abcdx", ["ab", "cd", "x"], True),
    ],
)
def test_examples(answer, completions, allowed):
    assert built_from(answer, completions) is allowed


@given(st.lists(st.text("abc", min_size=2, max_size=5), min_size=1, max_size=6), st.randoms())
def test_joins_of_whole_completions_pass(completions, draw):
    order = [draw.choice(completions) for _ in range(4)]
    assert built_from("".join(order), completions)


@given(st.text("abc", min_size=1, max_size=8), st.lists(st.text("abc", min_size=1, max_size=3), max_size=4))
def test_the_programme_agrees_with_trying_everything(answer, completions):
    def fewest(rest: str) -> float:
        if not rest:
            return 0
        return min(
            (1 + fewest(rest[len(c) :]) for c in completions if rest.startswith(c)), default=float("inf")
        )

    count = fewest(answer)
    assert built_from(answer, completions) == (count == 1 or count <= -(-len(answer) // SHORTEST_MEAN))


def test_a_long_answer_and_many_completions_take_no_time():
    began = time.process_time()
    built_from("a" * 4096 + "b", ["a" * length for length in range(1, 500)])
    assert time.process_time() - began < 5
