"""Attempts go where most can be learned, and everywhere a little."""

import math
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from moevolve.skills.curriculum import (
    SEEN,
    UNIFORM,
    allocate,
    by_amplification,
    by_practice,
    drawn_by_weight,
    learnability,
    shares,
)
from moevolve.skills.mastery import Mastery

LEVELS = {"text/sort": (1, 10), "text/reverse": (1, 10)}


def known() -> Mastery:
    """`text/reverse` is untried; `text/sort` is sure up to 4, even at 5, lost from 6 on."""
    made = Mastery(LEVELS)
    for level in range(1, 11):
        made.observe("text/sort", level, {5: 10}.get(level, 20 if level < 5 else 0), 20)
    return made


@given(focus=st.floats(0, 1))
def test_shares_sum_to_one_and_leave_no_cell_out(focus: float) -> None:
    found = shares(by_practice(known(), Mastery(LEVELS)), focus)
    assert math.isclose(sum(found.values()), 1.0)
    assert len(found) == 20
    assert min(found.values()) >= UNIFORM / 20


@given(n=st.integers(1, 20_000))
def test_every_cell_is_seen_and_where_attempts_are_many_no_more_than_that_is_spread_evenly(n: int) -> None:
    weights = by_practice(known(), Mastery(LEVELS))
    counts = Counter(allocate(weights, n, 1.0, Random(n)))
    least = min(UNIFORM * n / 20, SEEN)
    assert all(counts[cell] >= math.floor(least) for cell in weights)
    # Mastered and hopeless levels get little beyond it.
    assert counts["text/sort", 10] <= least + 0.05 * n + 1


def test_the_frontier_gets_most() -> None:
    found = shares(by_practice(known(), Mastery(LEVELS)), 0.0)
    sort = {level: found["text/sort", level] for level in range(1, 11)}
    assert max(sort, key=lambda level: sort[level]) == 5
    assert sort[5] > 3 * sort[1]
    assert sort[5] > 3 * sort[9]


def test_an_untried_level_beyond_the_frontier_is_tried() -> None:
    made = Mastery({"text/sort": (1, 6)})
    for level in (1, 2):
        made.observe("text/sort", level, 40, 40)
    found = shares(by_practice(made, made), 0.0)
    assert found["text/sort", 3] > 2 * found["text/sort", 2]


def test_focus_shares_skills_by_what_is_left_to_learn() -> None:
    def of(focus: float) -> float:
        return sum(
            share
            for (skill, _), share in shares(by_practice(known(), Mastery(LEVELS)), focus).items()
            if skill == "text/reverse"
        )

    assert math.isclose(of(0.0), 0.5)
    assert of(1.0) > of(0.5) > of(0.0)


@given(n=st.integers(0, 300), focus=st.floats(0, 1), seed=st.integers())
def test_an_allocation_is_as_even_as_its_shares(n: int, focus: float, seed: int) -> None:
    chosen = allocate(by_practice(known(), Mastery(LEVELS)), n, focus, Random(seed))
    assert len(chosen) == n
    assert chosen == allocate(by_practice(known(), Mastery(LEVELS)), n, focus, Random(seed))
    counts = Counter(chosen)
    for cell, share in shares(by_practice(known(), Mastery(LEVELS)), focus).items():
        assert math.floor(share * n - 1e-9) <= counts[cell] <= math.ceil(share * n + 1e-9)


def test_practice_goes_where_the_program_fails() -> None:
    program = Mastery(LEVELS)
    for level in range(1, 11):
        program.observe("text/sort", level, 40, 40)
        program.observe("text/reverse", level, 10, 40)
    weights = by_practice(Mastery(LEVELS), program)
    assert weights["text/reverse", 5] > 5 * weights["text/sort", 5]


def test_a_program_is_asked_where_it_succeeds_and_the_bare_policy_does_not() -> None:
    program = Mastery(LEVELS)
    for level in range(1, 11):
        program.observe("text/sort", level, 20, 20)
    weights = by_amplification(known(), program)
    assert weights["text/sort", 6] > 5 * weights["text/sort", 2]
    assert weights["text/sort", 6] > 5 * weights["text/sort", 10], "far beyond the frontier nothing is taught"


def test_learnability_is_the_variance_of_the_verdict() -> None:
    assert learnability(0.5) == 0.25
    assert learnability(0.0) == learnability(1.0) == 0.0


@given(n=st.integers(0, 40), seed=st.integers())
def test_tasks_are_drawn_by_the_weight_of_their_cells_and_keep_their_order(n: int, seed: int) -> None:
    cells = [("text/sort", level) for level in (2, 5, 7) for _ in range(15)]
    places = drawn_by_weight(cells, {("text/sort", 2): 0.0, ("text/sort", 5): 0.25}, n, Random(seed))
    assert len(places) == min(n, 15) and all(cells[place] == ("text/sort", 5) for place in places)
    assert places == sorted(set(places))


def test_of_two_levels_the_one_from_which_more_is_learned_is_drawn_more_often() -> None:
    cells = [("text/sort", level) for level in (2, 5) for _ in range(200)]
    places = drawn_by_weight(cells, {("text/sort", 2): 0.05, ("text/sort", 5): 0.25}, 100, Random(1))
    assert sum(cells[place][1] == 5 for place in places) > 65
