"""What a journal says of memory fits together, and a forgery of it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from moevolve.auditor.findings import Findings
from moevolve.auditor.remembering import CHECK, Remembering
from moevolve.config import Config
from moevolve.records import (
    Evaluated,
    Interval,
    Learned,
    Outlived,
    Recalled,
    Record,
    Remembered,
    RunStarted,
    Shown,
)

replace = msgspec.structs.replace


def honest() -> list[Record]:
    config = Config.load("small", {"memory.quota": 3, "attempts.tasks": 20, "memory.without": 0.5})
    started = RunStarted(
        run="r",
        seed=1,
        arm="program",
        suite="s",
        answers="any",
        skills=[],
        config=config.canonical(),
        champion="v0000",
        weights="w",
        program="p",
        parameters=1,
    )
    recalled = Recalled(
        cycle=2,
        stage="sealed",
        variant="v0000",
        attempts=3,
        recalls=4,
        silent=1,
        lessons=["a", "b"],
        shown=[Shown(attempt=0, lessons=[1, 0], score=1.0), Shown(attempt=2, lessons=[0, 0], score=None)],
    )
    scored = Evaluated(
        cycle=2,
        variant="v0000",
        split="sealed",
        when="final",
        score=Interval(mean=0.5, low=0.1, high=0.9, n=2),
        skills={},
        tallies=[],
        outcomes=[1.0, 0.0, None],
        tokens=0,
    )
    remembered = Remembered(
        cycle=2,
        variant="v0000",
        with_memory=[1.0, None],
        without=[0.0, 1.0],
        tokens=9,
        trust={"a": 0.8, "b": 0.1},
        expired=["b"],
        notes=2,
    )
    learned = Learned(cycle=2, lessons=5, confirmed=0, buffer=0, recipe=None)
    return [started, remembered, learned, recalled, scored, Outlived(cycle=2, lessons=["a"])]


def found(records: list[Record]) -> list[str]:
    findings = Findings()
    memory = Remembering(findings)
    for seq, record in enumerate(records):
        memory.take(seq, record)
    assert all(each.check == CHECK and each.kind == "mismatch" for each in findings.listed)
    return [each.text for each in findings.listed]


def test_an_honest_journal_has_nothing_to_find() -> None:
    assert found(honest()) == []


def changed(kind: type, **fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [replace(each, **fields) if isinstance(each, kind) else each for each in records]


def off(records: list[Record]) -> list[Record]:
    config = Config.load("small", {"memory.mode": "off"}).canonical()
    return changed(RunStarted, config=config)(records)


FORGERIES: dict[str, Callable[[list[Record]], list[Record]]] = {
    "a better score of an attempt that recalled": changed(
        Recalled, shown=[Shown(attempt=1, lessons=[1], score=1.0), Shown(attempt=2, lessons=[0], score=None)]
    ),
    "an attempt that was not": changed(
        Recalled, shown=[Shown(attempt=9, lessons=[1], score=1.0), Shown(attempt=2, lessons=[0], score=None)]
    ),
    "a lesson without a name": changed(Recalled, lessons=["a"]),
    "a lesson named twice": changed(Recalled, lessons=["a", "a"]),
    "fewer recalls than attempts": changed(Recalled, recalls=2),
    "more silence than recalls": changed(Recalled, silent=5),
    "attempts left out": changed(Recalled, silent=0),
    "recalls without a memory": off,
    "a pair without its twin": changed(Remembered, without=[0.0]),
    "a trust above one": changed(Remembered, trust={"a": 1.2, "b": 0.1}),
    "a score above one": changed(Remembered, with_memory=[7.0, None]),
    "more twins than the share": changed(Remembered, with_memory=[1.0] * 19, without=[0.0] * 19),
    "a good lesson that expired": changed(Remembered, expired=["a"]),
    "more texts than the quota": changed(Remembered, notes=4),
    "more texts than lessons": changed(Learned, lessons=1),
    "a bad lesson that outlives the run": changed(Outlived, lessons=["b"]),
    "a lesson nobody tried that outlives the run": changed(Outlived, lessons=["zzz"]),
}


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_forgery_is_found(name: str) -> None:
    assert found(FORGERIES[name](honest()))
