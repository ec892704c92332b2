"""Intervals: of scores, of gains between like and unlike splits, of mastered levels."""

from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.journal.intervals import Z, independent_gain, mastered_level, paired_gain, wilson
from moevolve.records import Interval

unit = st.floats(0, 1)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_mean_and_stays_in_bounds(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    interval = wilson(k, n)
    assert 0 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1


def test_wilson_agrees_with_the_published_example() -> None:
    # 81 of 263 (Newcombe 1998, table I): .2553 to .3662.
    interval = wilson(81, 263)
    assert round(interval.low, 4) == 0.2553
    assert round(interval.high, 4) == 0.3662


@given(st.lists(unit, min_size=3, max_size=3), st.lists(unit, min_size=3, max_size=3))
def test_an_independent_gains_interval_holds_the_gain_and_is_antisymmetric(
    first: list[float], second: list[float]
) -> None:
    (a, b, c), (x, y, z) = sorted(first), sorted(second)
    before, after = Interval(mean=b, low=a, high=c, n=9), Interval(mean=y, low=x, high=z, n=9)
    low, high = independent_gain(before, after)
    assert low <= y - b + 1e-12 and y - b <= high + 1e-12
    assert independent_gain(after, before) == pytest.approx((-high, -low))


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=60))
def test_a_paired_gains_interval_holds_the_gain(pairs: list[tuple[float, float]]) -> None:
    found = paired_gain([a for a, _ in pairs], [b for _, b in pairs])
    assert found is not None
    gain, (low, high) = found
    assert low - 1e-9 <= gain <= high + 1e-9


def test_a_paired_gain_agrees_with_the_published_formula() -> None:
    # 10 tasks, 4 only after, 1 only before: the adjusted Wald interval of Agresti and Min (2005), section 4.1.
    before, after = [0.0] * 4 + [1.0] + [1.0] * 5, [1.0] * 4 + [0.0] + [1.0] * 5
    found = paired_gain(before, after)
    assert found is not None
    gain, (low, high) = found
    centre, half = 3 / 12, 1.959964 * ((6 - 9 / 12) ** 0.5) / 12
    assert gain == pytest.approx(0.3)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_tasks_that_one_side_left_unanswered_are_no_pair() -> None:
    assert paired_gain([None, 1.0, 0.0], [1.0, None, 1.0]) == paired_gain([0.0], [1.0])
    assert paired_gain([None], [1.0]) is None


def test_pairing_tells_more_than_two_intervals() -> None:
    before = [float(task % 2) for task in range(400)]
    after = [max(score, float(task % 20 == 0)) for task, score in enumerate(before)]
    found = paired_gain(before, after)
    assert found is not None
    low, high = independent_gain(wilson(sum(before), 400), wilson(sum(after), 400))
    assert found[1][1] - found[1][0] < (high - low) / 2


def looks(success: dict[int, float], attempts: int, rng: Random) -> dict[int, tuple[float, float]]:
    return {level: (sum(rng.random() < p for _ in range(attempts)), attempts) for level, p in success.items()}


def test_a_level_without_an_attempt_can_be_any() -> None:
    assert mastered_level({}, (1, 16)) == (8, (0, 16))


@pytest.mark.parametrize("attempts", [2, 8, 30])
@pytest.mark.parametrize("mastered", [0, 5, 16])
def test_the_interval_of_a_level_holds_the_true_one(mastered: int, attempts: int) -> None:
    rng = Random(f"{mastered}/{attempts}")
    held = 0
    for _ in range(100):
        success = {
            level: rng.uniform(0.8, 1) if level <= mastered else rng.uniform(0, 0.8) for level in range(1, 17)
        }
        level, (low, high) = mastered_level(looks(success, attempts, rng), (1, 16))
        assert low <= level <= high
        held += low <= mastered <= high
    assert held >= 93


def test_two_looks_at_one_skill_are_told_apart_seldom() -> None:
    rng = Random(7)
    steady = dict.fromkeys(range(1, 17), 0.9)
    apart = 0
    for _ in range(100):
        (_, first), (_, second) = (mastered_level(looks(steady, 2, rng), (1, 16)) for _ in range(2))
        apart += first[1] < second[0] or second[1] < first[0]
    assert apart <= 2


def test_more_attempts_make_the_interval_narrower() -> None:
    def width(attempts: int) -> int:
        tallies = {
            level: (attempts * 0.9 if level <= 8 else attempts * 0.5, attempts) for level in range(1, 17)
        }
        low, high = mastered_level(tallies, (1, 16))[1]
        return high - low

    assert width(400) <= width(40) <= width(4)


def test_the_normal_quantile_is_what_it_says() -> None:
    assert NormalDist().inv_cdf(0.975) == Z
