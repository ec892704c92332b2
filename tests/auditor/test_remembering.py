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
    Consolidated,
    Controlled,
    Evaluated,
    Interval,
    Learned,
    Outlived,
    Recalled,
    Record,
    Remembered,
    RunFinished,
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
    made_one = Consolidated(
        cycle=2,
        merge="m001",
        skill="s",
        about="fact",
        decision="merged",
        reason="2 lessons say the same",
        lesson="ad",
        sources=["a", "d"],
        evidence=[(3.0, 0.0), (1.0, 1.0)],
        trust=round(5 / 7, 9),
    )
    apart = replace(
        made_one,
        merge="m002",
        decision="declined",
        lesson="",
        sources=["e", "f"],
        evidence=[(20.0, 0.0), (0.0, 20.0)],
        trust=0.5,
    )
    return [started, remembered, learned, made_one, apart, recalled, scored, Outlived(cycle=2, lessons=["a"])]


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


def back(name: str) -> Controlled:
    return Controlled(cycle=2, request=1, command="rollback", variant=name, done=True, champion="v0000")


def test_a_merge_may_be_taken_back_once() -> None:
    assert found([*honest(), back("m001")]) == []
    assert len(found([*honest(), back("m001"), back("m001")])) == 1


def merge(name: str, **fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [
        replace(each, **fields) if isinstance(each, Consolidated) and each.merge == name else each
        for each in records
    ]


def test_recalls_that_older_versions_wrote_behind_their_score_are_held_against_it() -> None:
    *before, recalled, scored, outlived = honest()
    ended = RunFinished(cycles=2, champion="v0000")
    assert isinstance(recalled, Recalled)
    assert found([*before, scored, recalled, outlived, ended]) == []
    wrong = replace(recalled, shown=[replace(recalled.shown[0], score=0.0), *recalled.shown[1:]])
    assert len(found([*before, scored, wrong, outlived, ended])) == 1


FORGERIES: dict[str, Callable[[list[Record]], list[Record]]] = {
    "lessons made one that attempts tell apart": merge("m002", decision="merged", lesson="ef"),
    "lessons left apart that nothing tells apart": merge("m001", decision="declined", lesson=""),
    "a merge with more trust than its lessons earned": merge("m001", trust=0.9),
    "a merge of lessons with another trust than they had": merge(
        "m001", evidence=[(1.0, 0.0), (1.0, 1.0)], trust=0.6
    ),
    "a merge of one lesson": merge("m001", sources=["a"], evidence=[(3.0, 0.0)]),
    "a merge of one lesson twice": merge("m001", sources=["a", "a"]),
    "evidence that cannot be": merge("m001", evidence=[(3.0, 0.0), (-1.0, 1.0)]),
    "a merge under another number": merge("m002", merge="m007"),
    "a merge without its lesson": merge("m001", lesson=""),
    "a merge taken back that never was": lambda records: [*records, back("m002")],
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
