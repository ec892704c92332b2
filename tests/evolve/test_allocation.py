"""Attempts go where most can be learned, and nowhere is forgotten."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.evolve.allocation import DECAY, UNIFORM, allocate, amplified, learnability, observe, success

CELLS = [(skill, level) for skill in ("number/add", "text/reverse", "text/sort") for level in range(1, 9)]


def weights_of(counts: dict) -> dict:
    return {cell: learnability(success(counts, *cell)) for cell in CELLS}


@given(n=st.integers(1, 400), focus=st.floats(0, 1), seed=st.integers(0, 1000))
def test_returns_exactly_as_many_cells_as_asked(n: int, focus: float, seed: int) -> None:
    assert len(allocate(dict.fromkeys(CELLS, 1.0), n, focus, Random(seed))) == n


def test_every_cell_keeps_its_uniform_share() -> None:
    weights = dict.fromkeys(CELLS, 0.0) | {("text/sort", 3): 1.0}
    n = 2400
    chosen = allocate(weights, n, 1.0, Random(0))
    for cell in CELLS:
        assert chosen.count(cell) >= int(n * UNIFORM / len(CELLS)) - 1


def test_most_attempts_go_to_cells_solved_half_the_time() -> None:
    counts: dict = {}
    observe(
        counts,
        [("text/sort", level, 16 if level < 4 else 8 if level == 4 else 0, 16) for level in range(1, 9)],
    )
    chosen = allocate(weights_of(counts), 960, 0.0, Random(1))
    by_level = [chosen.count(("text/sort", level)) for level in range(1, 9)]
    assert by_level[3] == max(by_level)


def test_focus_moves_attempts_to_the_skill_with_more_to_learn() -> None:
    counts: dict = {}
    for level in range(1, 9):
        observe(counts, [("text/sort", level, 100, 200), ("text/reverse", level, 200, 200)])
    weights = weights_of(counts)
    even = [skill for skill, _ in allocate(weights, 900, 0.0, Random(2))].count("text/sort")
    focused = [skill for skill, _ in allocate(weights, 900, 1.0, Random(2))].count("text/sort")
    assert focused > even


def test_an_untried_level_is_judged_a_little_below_its_neighbour() -> None:
    counts: dict = {}
    observe(counts, [("text/sort", level, 20, 20) for level in range(1, 5)])
    assert (
        success(counts, "text/sort", 4)
        > success(counts, "text/sort", 5)
        > success(counts, "text/sort", 6)
        > 0
    )


@given(st.floats(0, 1), st.floats(0, 1))
def test_weights_are_never_negative(direct: float, program: float) -> None:
    assert learnability(direct) >= 0
    assert amplified(direct, program) >= 0


def test_older_counts_fade() -> None:
    counts: dict = {}
    observe(counts, [("text/sort", 1, 10, 10)])
    observe(counts, [("text/sort", 1, 0, 10)])
    assert counts["text/sort"][1] == pytest.approx((10 * DECAY, 10 * DECAY + 10))
