"""The winner's curse: the score that chose a candidate, corrected for having been the best of several."""

import math
from collections.abc import Callable
from random import Random
from statistics import fmean

import pytest

from moevolve.errors import UsageError
from moevolve.gate.screening import corrected_best, standard_error

ERROR = math.sqrt(0.15 / 192)


@pytest.mark.parametrize(
    "world",
    [
        lambda rng: [0.0] * 8,
        lambda rng: [rng.gauss(0.0, 0.03) for _ in range(8)],
        lambda rng: [0.0] * 7 + [0.2],
        lambda rng: [rng.gauss(-0.02, 0.05) for _ in range(4)],
        lambda rng: [0.0, 0.0],
    ],
    ids=["nothing real", "small gains", "one that is better", "four, mostly worse", "two nulls"],
)
def test_the_chosen_gain_is_overrated_less_and_is_nearer_to_the_truth(
    world: Callable[[Random], list[float]],
) -> None:
    raw, after = [], []
    for seed in range(1000):
        rng = Random(seed)
        true = world(rng)
        seen = [rng.gauss(gain, ERROR) for gain in true]
        chosen = max(range(len(seen)), key=seen.__getitem__)
        raw.append(seen[chosen] - true[chosen])
        after.append(corrected_best(seen, ERROR, rng) - true[chosen])
    assert abs(fmean(after)) <= max(0.004, abs(fmean(raw)) / 2)
    assert fmean(each**2 for each in after) <= fmean(each**2 for each in raw) * 1.1


def test_one_that_is_clearly_best_is_chosen_for_what_it_is() -> None:
    assert corrected_best([0.3, 0.01, -0.02, 0.05, 0.0], 0.02, Random(1)) == pytest.approx(0.3, abs=0.005)
    assert corrected_best([0.3], 0.02, Random(1)) == pytest.approx(0.3, abs=0.005)


def test_the_best_of_equals_is_chosen_for_its_luck() -> None:
    # The highest of eight normal draws lies 1.42 standard errors up.
    assert corrected_best([0.04] * 8, 0.02, Random(1)) == pytest.approx(0.04 - 1.42 * 0.02, abs=0.004)


def test_the_error_of_ties_is_not_zero() -> None:
    assert standard_error([0.0] * 100) == 0.01
    assert standard_error([1.0, -1.0] * 50) == pytest.approx(0.1, rel=0.02)
    assert standard_error([0.5]) == 1.0


def test_misuse_is_named() -> None:
    with pytest.raises(UsageError, match="no gains"):
        corrected_best([], 0.1, Random(1))
