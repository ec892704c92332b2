"""The parts of an optimisation run: operators, marks, and the test that decides where scores differ."""

from __future__ import annotations

import ast
import math
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.loop.optimise.proposers import OPERATORS, Brief, literals, proposer
from moevolve.loop.optimise.rule import permutation_p
from moevolve.tasks.evaluators.marks import blocks, marked, outside

PROGRAM = '''"""Ein Programm mit Umlauten: äöü."""
OUTSIDE = 17
# EVOLVE-BLOCK-START
NAME = "größe"
RATE = -0.25e-1
def step(x, other="länge"):
    x = x + 1 - 2 * 3
    if x < 4:
        x = 5
    return x == 6
# EVOLVE-BLOCK-END
ALSO = "outside"
'''
RUST = "// EVOLVE-BLOCK-START\nconst N: usize = 12;\n// EVOLVE-BLOCK-END\nconst M: usize = 3;\n"


def brief(parent: str, best: str = PROGRAM, others: tuple[str, ...] = ()) -> Brief:
    return Brief(
        parent=parent, score=1.0, metrics={}, best=best, others=others, task="", evaluation=1, evaluations=9
    )


@pytest.mark.parametrize("name", list(OPERATORS))
def test_operators_change_what_they_may_and_nothing_else(name: str) -> None:
    other = PROGRAM.replace("0.25e-1", "0.5").replace("5\n", "50\n")
    found = [OPERATORS[name](brief(PROGRAM, other, (other,)), Random(seed)) for seed in range(60)]
    texts = {each.text for each in found if each is not None}
    assert len(texts) > 2
    for text in texts - {PROGRAM}:
        assert outside(text) == outside(PROGRAM)
        ast.parse(text) if name != "syntax" else None


def test_constants_of_another_language() -> None:
    assert [each.text for each in literals(RUST)] == ["12"]
    found = OPERATORS["constants"](brief(RUST), Random(3))
    assert found is not None and outside(found.text) == outside(RUST) and found.text != RUST


@pytest.mark.parametrize("literal", ["1_000", "0x10", "0b101", "7", "9" * 400, "9" * 4200, "0"])
def test_integers_stay_integers(literal: str) -> None:
    texts = set()
    for seed in range(40):
        found = OPERATORS["constants"](brief(f"A = {literal}\n"), Random(seed))
        assert found is not None
        texts.add(found.text)
        assert isinstance(ast.literal_eval(found.text.removeprefix("A = ").strip()), int)
    assert len(texts) > 1 or len(literal) > 4000


@pytest.mark.parametrize("literal", ["1e308", "1e999", "1.5e-320", "1_0.5"])
def test_floats_near_the_limit_stay_numbers(literal: str) -> None:
    for seed in range(60):
        found = OPERATORS["constants"](brief(f"A = {literal}\n"), Random(seed))
        assert found is not None
        number = ast.literal_eval(found.text.removeprefix("A = ").strip())
        assert isinstance(number, float) and (math.isfinite(number) or literal == "1e999")


@pytest.mark.parametrize(
    "program", ["A = 1\nB = 2", "A = 1\r\nB = 2", "A = 1\nB = 2\n", "A = 1\r\nB = 2\r\n"]
)
def test_lines_are_exchanged_whole(program: str) -> None:
    found = [OPERATORS["syntax"](brief(program), Random(seed)) for seed in range(40)]
    [text] = {each.text for each in found if each is not None and each.summary == "two lines exchanged"}
    assert text == program.replace("A = 1", "?").replace("B = 2", "A = 1").replace("?", "B = 2")


@pytest.mark.parametrize("name", ["constants", "syntax"])
def test_lines_that_end_otherwise_than_ours_are_no_python(name: str) -> None:
    for seed in range(20):
        OPERATORS[name](brief("A = 5\rB = 6\rC = 7\r"), Random(seed))


def test_places_are_in_characters_not_bytes() -> None:
    assert [each.text for each in literals(PROGRAM)][:3] == ['"größe"', "0.25e-1", '"länge"']


def test_several_blocks_and_none() -> None:
    text = "a\n# EVOLVE-BLOCK-START\nb\n# EVOLVE-BLOCK-END\nc\n#EVOLVE-BLOCK-START\nd\n#EVOLVE-BLOCK-END"
    assert blocks(text) == [(2, 3), (6, 7)] and blocks("x\ny") == [(0, 2)]
    assert outside(text) == [line for line in text.split("\n") if line not in ("b", "d")]


MENTIONS = '''"""Only what stands between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change."""
LIMIT = 10  # EVOLVE-BLOCK-START
# EVOLVE-BLOCK-START
A = 3
NAME = "EVOLVE-BLOCK-END"
# EVOLVE-BLOCK-END
print(min(A, LIMIT))
'''


def test_a_line_that_mentions_a_mark_is_none() -> None:
    assert blocks(MENTIONS) == [(3, 5)]
    for cheat in (
        MENTIONS.replace("LIMIT = 10", "LIMIT = 10**9"),
        MENTIONS.replace("# EVOLVE-BLOCK-START\nA", "A"),
        MENTIONS.replace("# EVOLVE-BLOCK-END\nprint(min(A, LIMIT))", "print(A)"),
        MENTIONS.replace("A = 3\n", "# EVOLVE-BLOCK-END\nLIMIT = 10**9\n# EVOLVE-BLOCK-START\n"),
    ):
        assert outside(cheat) != outside(MENTIONS)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("  # EVOLVE-BLOCK-START", "#EVOLVE-BLOCK-END  "),
        ("// EVOLVE-BLOCK-START\r", "//EVOLVE-BLOCK-END\r"),
        ("/* EVOLVE-BLOCK-START */", "/* EVOLVE-BLOCK-END */"),
        ("<!-- EVOLVE-BLOCK-START -->", "<!-- EVOLVE-BLOCK-END -->"),
        ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"),
        ("## === EVOLVE-BLOCK-START ===", "-- EVOLVE-BLOCK-END"),
    ],
)
def test_marks_are_comments_of_many_languages(start: str, end: str) -> None:
    assert marked(f"a\n{start}\nb\n{end}\nc") == [(2, 3)]


MARKS = ["# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END", "// EVOLVE-BLOCK-END", "x = 'EVOLVE-BLOCK-START'", "x"]


@given(st.lists(st.sampled_from(MARKS), max_size=12))
def test_what_may_not_change_is_whatever_lies_in_no_block(lines: list[str]) -> None:
    inside = {number for first, last in marked("\n".join(lines)) for number in range(first, last)}
    assert outside("\n".join(lines)) == [each for n, each in enumerate(lines) if n not in inside] or not lines
    kept = [each for n, each in enumerate(lines) if n in inside]
    assert not any(each.endswith("-END") for each in kept), "a block ends at its first end"


def test_proposers_by_name() -> None:
    with pytest.raises(UsageError, match="no proposer 'constant'"):
        proposer("constant")
    with pytest.raises(UsageError, match="there is no proposer"):
        proposer("nowhere.py")


SCORES = st.lists(st.integers(-5, 5).map(float), min_size=4, max_size=5)


@given(SCORES, SCORES)
def test_the_permutation_test_is_valid(candidate: list[float], champion: list[float]) -> None:
    """Over all ways to deal the pooled scores, p <= a happens in at most a share a of them, ties included."""
    pooled = [*candidate, *champion]
    found = []
    for chosen in combinations(range(len(pooled)), len(candidate)):
        mine = [pooled[place] for place in chosen]
        found.append(
            permutation_p(mine, [pooled[place] for place in range(len(pooled)) if place not in chosen])
        )
    for level in (0.05, 0.2, 0.5):
        assert sum(p <= level for p in found) <= level * len(found) + 1e-9


@given(SCORES, st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=7))
def test_a_p_value_counts_deals(candidate: list[float], champion: list[float]) -> None:
    deals = [sum(chosen) for chosen in combinations([*candidate, *champion], len(candidate))]
    assert permutation_p(candidate, champion) == sum(deal >= sum(candidate) for deal in deals) / len(deals)


@given(SCORES, SCORES)
def test_the_permutation_test_knows_no_size(candidate: list[float], champion: list[float]) -> None:
    large = [[score * 2.0**1020 for score in side] for side in (candidate, champion)]
    assert permutation_p(*large) == permutation_p(candidate, champion)
