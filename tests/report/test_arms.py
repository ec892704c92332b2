"""Arms over seeds: means with Student's interval, runs of one kind together."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import pytest

from moevolve.report.arms import T975, arms, mean_of
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
