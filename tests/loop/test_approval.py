"""Promotions that wait for a person: by what a candidate brings, whatever it was made as."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from moevolve.gate.betting import GateVerdict
from moevolve.journal.archive import Variant
from moevolve.loop.stages.gate import _watched
from moevolve.records import Level

PASSED = GateVerdict(
    decision="promote",
    reason="better",
    n=1,
    missing=0,
    wins=1,
    losses=0,
    gain=1.0,
    evidence=9.0,
    against=0.0,
    skills={},
    bounds={},
    harmed=(),
    vetoes=(),
)


def variant(name: str, weights: str, program: str) -> Variant:
    return Variant(name, [], 1, weights, program, "program", "own", "", None, "candidate")


def decided(approve: str, level: Level, weights: str, program: str, waiting: Sequence[str] = ()) -> str:
    """What becomes of a candidate that passed, where champion, settings and those that wait are these."""
    run = SimpleNamespace(
        state=SimpleNamespace(waiting=list(waiting)),
        champion=variant("v0000", "old", "old"),
        config=SimpleNamespace(seed=0, guard=SimpleNamespace(approve=approve, knock_out=0)),
        guards=SimpleNamespace(promotion=lambda case: []),
        growing=SimpleNamespace(levels={}),
        journal=SimpleNamespace(write=lambda records: None),
        bill=lambda cycle, stage: None,
    )
    verdict, refusing = _watched(run, 1, level, variant("v0001", weights, program), PASSED)  # type: ignore[arg-type]
    assert not refusing and verdict.decision is not None
    return verdict.decision


@pytest.mark.parametrize(
    ("approve", "level", "weights", "program", "decision"),
    [
        ("program", "program", "old", "new", "hold"),
        ("program", "weights", "new", "old", "promote"),
        # New weights whose recipe came with a program that nobody approved.
        ("program", "weights", "new", "new", "hold"),
        ("weights", "weights", "new", "old", "hold"),
        ("weights", "program", "old", "new", "promote"),
        ("weights", "program", "new", "new", "hold"),
        ("all", "program", "old", "new", "hold"),
        ("all", "weights", "new", "old", "hold"),
        ("none", "weights", "new", "new", "promote"),
    ],
)
def test_whoever_is_to_be_asked_is_asked(
    approve: str, level: Level, weights: str, program: str, decision: str
) -> None:
    assert decided(approve, level, weights, program) == decision


def test_whoever_passes_beside_one_that_waits_waits_as_well() -> None:
    """Else an approval of the first put a champion back that the second had replaced."""
    assert decided("weights", "program", "old", "new") == "promote"
    assert decided("weights", "program", "old", "new", waiting=["v0000"]) == "hold"
