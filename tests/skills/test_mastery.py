"""Mastery: what is estimated from attempts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.skills.mastery import Mastery

LEVELS = {"text/sort": (1, 8), "text/reverse": (1, 8), "number/add": (1, 4)}


def mastery(*rows: tuple[str, int, float, float]) -> Mastery:
    made = Mastery(LEVELS)
    for row in rows:
        made.observe(*row)
    return made


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 20), st.integers(0, 20)), max_size=12))
def test_estimates_are_probabilities_and_fall_beyond_what_was_tried(rows: list[tuple[int, int, int]]) -> None:
    known = Mastery(LEVELS)
    for level, good, bad in rows:
        known.observe("text/sort", level, good, good + bad)
    estimates = known.estimates("text/sort")
    assert all(0 < estimates[level] < 1 for level in estimates)
    last = max((level for level, good, bad in rows if good + bad), default=0)
    for level in range(max(2, last + 1), 9):
        assert estimates[level] < estimates[level - 1]


def test_estimates_lean_on_the_counts_when_there_are_many() -> None:
    assert math.isclose(mastery(("text/sort", 3, 300, 1000)).estimates("text/sort")[3], 0.3, abs_tol=0.002)


def test_fading_lets_new_attempts_tell() -> None:
    known = mastery(("text/sort", 1, 0, 100))
    known.fade(0.05)
    known.observe("text/sort", 1, 20, 20)
    assert known.tries("text/sort", 1) == (20.0, 25.0)


@pytest.mark.parametrize(
    "row", [("text/srot", 1, 1, 1), ("text/sort", 9, 1, 1), ("text/sort", 1, 2, 1), ("text/sort", 1, -1, 1)]
)
def test_what_cannot_be_is_named(row: tuple[str, int, float, float]) -> None:
    with pytest.raises(UsageError, match=row[0]):
        mastery(row)
