"""Arms over seeds: means with Student's interval, runs of one kind together."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import pytest

from moevolve.journal.proposers import Account
from moevolve.report.arms import T975, arms, mean_of
from moevolve.report.beside import over_seeds
from moevolve.report.search import figures, lines
from moevolve.report.summary import Summary


def summary(name: str, arm: str, seed: int, final: float | None, initial: float = 0.4) -> Summary:
    score = {} if final is None else {"initial": initial, "final": final, "gain": final - initial}
    return msgspec.convert(
        {
            "run": f"{name}-{seed}-abcd",
            "status": "finished",
            "seed": seed,
            "arm": arm,
            "suite": "primer",
            "answers": "policy",
            "cycles": 1,
            "seconds": 10.0 * seed,
            "score": score,
            "skills": {},
            "promotions": {
                "weights": {"proposed": 2, "accepted": 1},
                "program": {"proposed": 2, "accepted": seed},
            },
            "guards": {},
            "alarms": [],
            "waiting": [],
            "champion": "v1",
            "variants": 2,
            "memory": {"lessons": 0},
            "tokens": {"generated": 10, "trained": 5},
            "journal": {"entries": 1, "head": "h"},
            "parameters": 1,
            "dev": {},
            "curve": [],
            "gates": [],
            "screened": 0,
            "stage": "",
        },
        Summary,
    )


def test_runs_of_one_name_and_arm_are_one_line() -> None:
    found = arms(
        [
            summary("quickstart", "full", 1, 0.8),
            summary("quickstart", "program", 1, 0.7),
            summary("quickstart", "full", 3, 0.9),
            summary("hill-climb", "program", 1, 0.5),
            summary("quickstart", "full", 5, None),
        ]
    )
    assert [(each.name, each.arm, each.seeds) for each in found] == [
        ("quickstart", "full", [1, 3]),
        ("quickstart", "program", [1]),
        ("hill-climb", "program", [1]),
    ]
    full = found[0]
    assert full.final.mean == pytest.approx(0.85)
    assert full.final.ci == pytest.approx((0.85 - 12.706 * 0.05, 0.85 + 12.706 * 0.05), abs=1e-4)
    assert (full.seconds, full.tokens, full.promotions) == (20.0, 15, 3)
    assert found[1].final.ci is None


def test_the_interval_of_a_mean_is_students() -> None:
    """Five equal steps: mean 3, standard deviation sqrt(2.5), t of four degrees of freedom."""
    found = mean_of([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * math.sqrt(2.5 / 5)
    assert found.mean == 3.0
    assert found.ci == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert list(T975) == sorted(T975, reverse=True)
    assert T975[-1] > NormalDist().inv_cdf(0.975)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1.0, 1e20, 1e300])
def test_an_evaluators_numbers_keep_their_digits_at_every_scale(scale: float) -> None:
    found = mean_of([1.0 * scale, 2.0 * scale, 3.0 * scale], rated=True)
    half = 4.303 / math.sqrt(3)
    assert found.mean == pytest.approx(2 * scale)
    assert found.ci == pytest.approx(((2 - half) * scale, (2 + half) * scale))


@pytest.mark.parametrize("values", [[1.7e308, 1.7e308], [-1.7976931348623157e308, 1.7976931348623157e308]])
def test_numbers_near_the_limit_have_a_finite_mean_and_interval(values: list[float]) -> None:
    found = mean_of(values, rated=True)
    assert found.ci is not None
    assert all(map(math.isfinite, (found.mean, *found.ci)))
    assert found.ci[0] <= found.mean <= found.ci[1]


@pytest.mark.parametrize("rated", [True, False])
def test_the_heading_of_arms_reads_as_a_sentence(rated: bool) -> None:
    runs = [summary("bowl", "program", 1, 1e-20, 1e-21)]
    if not rated:
        runs = [
            msgspec.structs.replace(each, score=msgspec.structs.replace(each.score, n=9)) for each in runs
        ]
    title = str(over_seeds(arms(runs)).title)
    assert title.endswith("means over seeds with 95 % intervals") and ",," not in title


def test_tiny_gains_of_operators_are_told() -> None:
    account = Account(made=1, screened=1, passed=1, promoted=1, gain=3e-9)
    found = figures({"constants": account}, rated=True)
    assert found[0].gain == 3e-9
    assert any("+3e-09" in each for each in lines([], found, rated=True))
