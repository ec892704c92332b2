"""Capital: figures by hand, error by simulation, bounds that cover."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.gate.capital import STAKES, least_tasks, log_capital, lower_bound, mirrored, tasks_needed

MANY = st.dictionaries(st.floats(-1, 1), st.integers(1, 10**6), max_size=6)


def test_capital_by_hand() -> None:
    by_hand = [(1 + s) * (1 - 0.25 * s) * (1 - s) for s in STAKES]
    assert math.isclose(log_capital({1.0: 1, -0.25: 1, -1.0: 1}), math.log(sum(by_hand) / len(by_hand)))
    shifted = [(1 + s * 1.05 / 0.95) * (1 + s * 0.05 / 0.95) ** 2 for s in STAKES]
    assert math.isclose(log_capital({1.0: 1, 0.0: 2}, 0.05), math.log(sum(shifted) / len(shifted)))


@given(MANY, st.floats(-0.9, 0.9))
def test_capital_stays_finite(counts: dict[float, int], margin: float) -> None:
    assert math.isfinite(log_capital(counts, margin))


@given(MANY, st.floats(-0.9, 0.9), st.floats(0, 0.09))
def test_a_wider_margin_is_never_harder_to_show(counts: dict[float, int], margin: float, more: float) -> None:
    assert log_capital(counts, margin + more) >= log_capital(counts, margin) - 1e-6


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_evidence_keeps_its_error_however_often_one_looks(margin: float) -> None:
    # The mean is exactly -margin; no other rule helps.
    crossings = 0
    for seed in range(2000):
        rng, counts = Random(seed), {1.0: 0, -1.0: 0, 0.0: 0}
        for _ in range(60):
            for difference in rng.choices([1.0, -1.0, 0.0], [0.2, 0.2 + margin, 0.6 - margin], k=12):
                counts[difference] += 1
            if log_capital(counts, margin) >= math.log(20):
                crossings += 1
                break
    assert crossings / 2000 <= 0.05


def test_the_lower_bound_is_where_the_proof_ends_and_covers_the_mean() -> None:
    counts = {1.0: 30, -1.0: 12, 0.0: 200}
    bound = lower_bound(counts, 0.05)
    assert log_capital(counts, -bound) >= math.log(20) > log_capital(counts, -bound - 0.001)
    assert bound < 18 / 242
    assert lower_bound({}, 0.05) == -1.0
    assert lower_bound({-1.0: 5}, 0.05) == -1.0
    missed = 0
    for seed in range(400):
        drawn = Random(seed).choices([1.0, -1.0, 0.0], [0.15, 0.1, 0.75], k=200)
        missed += lower_bound({d: drawn.count(d) for d in set(drawn)}, 0.05) > 0.05
    assert missed / 400 <= 0.05


def test_the_least_tasks_are_what_ties_alone_take() -> None:
    n = least_tasks(0.05, 0.02)
    assert n == 108
    assert log_capital({0.0: n}, 0.05) >= math.log(50) > log_capital({0.0: n - 1}, 0.05)
    assert least_tasks(0.0, 0.02) == 0


def test_tasks_needed_are_those_that_ties_take_and_none_once_shown() -> None:
    assert tasks_needed({0.0: 50}, math.log(50), 0.05, 0.0) == pytest.approx(
        least_tasks(0.05, 0.02) - 50, abs=8
    )
    assert tasks_needed({1.0: 50}, math.log(50), 0.0, 0.0) == 0.0
    assert tasks_needed({-1.0: 50}, math.log(50), 0.0, 1.0) == math.inf


def test_the_other_side_sees_the_differences_turned() -> None:
    assert mirrored({1.0: 3, -0.5: 2}) == {-1.0: 3, 0.5: 2}
