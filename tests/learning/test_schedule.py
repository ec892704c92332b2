"""The learning rate of a stage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.learning.schedule import FLOOR, WARM_UP, rate_at


@given(st.sampled_from(["linear", "cosine"]), st.integers(WARM_UP + 1, 400))
def test_it_rises_to_the_peak_and_falls_to_a_tenth(schedule, steps: int) -> None:
    rates = [rate_at(schedule, 2.0, step, steps) for step in range(1, steps + 1)]
    assert rates[:WARM_UP] == sorted(rates[:WARM_UP])
    assert rates[WARM_UP - 1] == max(rates) == 2.0
    assert rates[WARM_UP - 1 :] == sorted(rates[WARM_UP - 1 :], reverse=True)
    assert rates[-1] == pytest.approx(2.0 * FLOOR)


def test_half_way_down_both_are_in_the_middle() -> None:
    middle = 2.0 * (1 + FLOOR) / 2
    assert rate_at("linear", 2.0, WARM_UP + 50, WARM_UP + 100) == pytest.approx(middle)
    assert rate_at("cosine", 2.0, WARM_UP + 50, WARM_UP + 100) == pytest.approx(middle)
    assert rate_at("cosine", 2.0, WARM_UP + 10, WARM_UP + 100) > rate_at(
        "linear", 2.0, WARM_UP + 10, WARM_UP + 100
    )
