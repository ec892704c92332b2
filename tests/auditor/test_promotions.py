"""Guards and persons between a candidate that passed and its crown, as an auditor finds them on record."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import promotion
import pytest

from moevolve.auditor.budgets import Budgets
from moevolve.auditor.findings import Findings
from moevolve.auditor.promotions import Promotions
from moevolve.records import Controlled, Gated, Guarded, Pairs, Record, RunStarted, Screened, VariantAdded

replace = msgspec.structs.replace


def started(**tables: dict[str, Any]) -> RunStarted:
    return RunStarted(
        run="run",
        seed=0,
        arm="full",
        suite="suite",
        answers="any",
        skills=[],
        config=json.dumps(tables),
        champion="v0000",
        weights="w0",
        program="p0",
        parameters=0,
    )


def variant(name: str, weights: str, program: str) -> VariantAdded:
    return promotion.variant(name, weights, program, level="program", operator="own")


def gated(decision: str, level: str = "program", **more: Any) -> Gated:
    pairs = [Pairs(batch=0, skill="a", candidate=[1.0], other=[0.0])]
    return promotion.gated("v0001", decision, level=level, pairs=pairs, **more)


def check(guard: str = "canaries", **more: Any) -> Guarded:
    made = Guarded(
        cycle=1, guard=guard, checked=1, vetoed=0, detail="", variant="v0001", evidence=0.0, proof=3.0
    )
    return replace(made, **more)


def word(command: str, name: str = "v0001", *, done: bool = True) -> Controlled:
    return Controlled(cycle=1, request=1, command=command, variant=name, done=done, champion=name)  # type: ignore[arg-type]


VETO: dict[str, Any] = {"vetoed": 1, "alarm": True, "evidence": 4.0}
VARIANTS = [variant("v0000", "w0", "p0"), variant("v0001", "w0", "p1")]


def found(*records: Record, **guard: Any) -> list[str]:
    """Kinds of findings about records after the start of a run with these settings."""
    findings = Findings()
    promotions = Promotions(findings, None)
    for seq, record in enumerate([started(guard={"use": [], **guard}), *VARIANTS, *records]):
        promotions.take(seq, record)
    return [finding.kind for finding in findings.listed]


HONEST: dict[str, tuple[list[Record], dict[str, Any]]] = {
    "nobody watches": ([gated("promote")], {}),
    "guards are content": ([check(), check("honeypots"), gated("promote")], {"use": ["canaries", "honeypots"]}),
    "a guard refuses": ([check(**VETO), gated("veto", guards=["canaries"])], {"use": ["canaries"]}),
    "the tree's guard refuses": ([check("growth", vetoed=2, evidence=4.0), gated("veto", guards=["growth"])], {}),
    "a guard refused another": ([check(variant="v0009", **VETO), gated("promote")], {}),
    "a person approves": ([gated("hold"), word("approve")], {"approve": "program"}),
    "a person rejects": ([gated("hold"), word("reject")], {"approve": "all"}),
    "a word about nobody": ([word("approve", "v0007", done=False)], {}),
    "weights bring a program": ([gated("hold", "weights")], {"approve": "program"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_what_a_run_does_is_no_mismatch(name: str) -> None:
    records, settings = HONEST[name]
    assert found(*records, **settings) == []


FORGED: dict[str, tuple[list[Record], dict[str, Any]]] = {
    "a veto that became a promotion": ([check(**VETO), gated("promote")], {}),
    "a veto that became a hold": ([check(**VETO), gated("hold")], {"approve": "program"}),
    "a veto of nobody": ([check(), gated("veto", guards=["canaries"])], {}),
    "a veto by another": ([check(**VETO), gated("veto", guards=["honeypots"])], {}),
    "an alarm that was hushed": ([check(evidence=4.0), gated("promote")], {}),
    "a refusal without proof": ([check("growth", vetoed=1), gated("veto", guards=["growth"])], {}),
    "a check that was left out": ([gated("promote")], {"use": ["canaries"]}),
    "a hold that became a promotion": ([gated("promote")], {"approve": "program"}),
    "a hold that nobody asked for": ([gated("hold")], {}),
    "an approval of one that a guard refused": (
        [check(**VETO), gated("veto", guards=["canaries"]), word("approve")], {}
    ),
    "an approval twice": ([gated("hold"), word("approve"), word("approve")], {"approve": "program"}),
    "an approval after a rejection": ([gated("hold"), word("reject"), word("approve")], {"approve": "all"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_no_run_does_is_a_mismatch(name: str) -> None:
    records, settings = FORGED[name]
    assert "mismatch" in found(*records, **settings)


def test_a_program_that_weights_brought_past_a_person_is_told() -> None:
    """A run of an older version did that: a person should know, and nothing contradicts anything."""
    assert found(gated("promote", "weights"), approve="program") == ["finding"]


@pytest.mark.parametrize(
    ("change", "honest"),
    [
        ({"void": True}, True),
        ({}, True),  # As an older version has it.
        ({"void": True, "passed": True}, False),
        ({"failures": {"policy": 3}}, False),
        ({"failures": {"policy": 3}, "void": True}, False),
        ({"failures": {"policy": 3}, "passed": True}, True),
    ],
)
def test_a_screening_is_void_where_more_than_three_in_a_hundred_have_no_answer(
    change: dict[str, Any], honest: bool
) -> None:
    findings = Findings()
    budgets = Budgets(findings, 3)
    budgets.take(0, started(), "v0000")
    record = Screened(
        cycle=1,
        variant="v0001",
        score=0.9,
        baseline=0.5,
        n=100,
        passed=False,
        failures={"policy": 2, "infrastructure": 2},
    )
    budgets.take(1, replace(record, **change), "v0000")
    assert (findings.listed == []) is honest
