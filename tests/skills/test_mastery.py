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


def test_a_posterior_has_the_estimate_as_its_mean_and_narrows_with_attempts() -> None:
    few, many = mastery(("text/sort", 1, 3, 4)), mastery(("text/sort", 1, 300, 400))
    for made in (few, many):
        for level, found in made.posteriors("text/sort").items():
            assert math.isclose(found.mean, made.estimates("text/sort")[level])
            assert found.low <= found.mean <= found.high
    widths = [made.posteriors("text/sort")[1] for made in (few, many)]
    assert widths[0].high - widths[0].low > 4 * (widths[1].high - widths[1].low)
    assert 0.7 < widths[1].low < 0.75 < widths[1].high < 0.8


def test_fading_widens_a_posterior() -> None:
    made = mastery(("text/sort", 1, 300, 400))
    before = made.posteriors("text/sort")[1]
    made.fade(0.1)
    after = made.posteriors("text/sort")[1]
    assert after.high - after.low > 2 * (before.high - before.low)


def test_a_skill_is_mastered_as_a_whole_once_its_highest_level_is() -> None:
    made = mastery(*(("number/add", level, 50, 50) for level in (1, 2, 3)))
    assert not made.mastered("number/add"), "its highest level was never tried"
    made.observe("number/add", 4, 50, 50)
    assert made.mastered("number/add")
    assert made.level("number/add") == (4, (4, 4))
    assert made.whole("number/add") == (200, 200)
