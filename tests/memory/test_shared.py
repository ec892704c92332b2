"""Memory that outlives runs: what a run takes over, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moevolve.journal.lessons import MemoryStore, Standing
from moevolve.memory.shared import BEFORE, Given, began, described, give, taken
from moevolve.memory.trust import Evidence
from moevolve.records import Lesson


def lesson(id: str, **fields: object) -> Lesson:
    common = {"skill": "s", "level": 1, "prompt": "p", "answer": "a", "success": True, "variant": "v"}
    return Lesson(**{"id": id, "text": f"text of {id}", "run": "old", "cycle": 7, **common, **fields})  # type: ignore[arg-type]


HELPS, HARMS = Evidence(9.0, 0.0), Evidence(0.0, 9.0)


def test_a_run_takes_over_what_holds_with_its_trust(tmp_path: Path) -> None:
    with MemoryStore(tmp_path) as shared:
        shared.put([lesson("a"), lesson("b", supersedes="a", source="person"), lesson("c"), lesson("d")])
        shared.set_standings([("b", Standing(trust=0.75, pinned=True)), ("c", Standing(forgotten=True))])
        writes = taken(shared, "mine")
    assert [(each.id, each.run, each.cycle, each.source, each.supersedes) for each in writes.lessons] == [
        ("b", "mine", BEFORE, "person", None),
        ("d", "mine", BEFORE, "old", None),
    ]
    assert dict(writes.standings)["b"] == Standing(trust=0.75, pinned=True)
    known = began(writes)
    assert known["b"].run.trust > 0.5 == known["d"].run.trust
    assert known["b"].all.trust == 0.75
    assert described(writes).lessons == 2
    assert described(taken(MemoryStore(tmp_path / "none"), "mine")).lessons == 0


def test_what_was_copied_is_what_is_copied_again(tmp_path: Path) -> None:
    with MemoryStore(tmp_path / "shared") as shared, MemoryStore(tmp_path / "own") as own:
        shared.put([lesson(str(number)) for number in range(20)])
        shared.set_standings([(str(number), Standing(trust=number / 19)) for number in range(20)])
        first = taken(shared, "mine")
        own.put(first.lessons)
        own.set_standings(first.standings)
        assert described(taken(own, "mine")) == described(first)


def test_what_helped_is_given_and_what_came_from_there_is_weighed(tmp_path: Path) -> None:
    with MemoryStore(tmp_path / "own") as own, MemoryStore(tmp_path / "shared") as shared:
        own.put(
            [lesson("new", cycle=2, run="mine"), lesson("old", cycle=BEFORE), lesson("bad", cycle=BEFORE)]
        )
        shared.put([lesson("old"), lesson("bad"), lesson("kept")])
        shared.set_standings([("kept", Standing(pinned=True))])
        known = {"new": HELPS, "old": HELPS, "bad": HARMS, "kept": HARMS}
        give(own, shared, {}, known, ["new", "old"])
        told = {each.id: shared.standing(each.id) for each in shared.all()}
        assert told.keys() == {"new", "old", "bad", "kept"}
        give(own, shared, {}, known, ["new", "old"])
        again = {each.id: shared.standing(each.id) for each in shared.all()}
        assert again == told, "a run that was killed before it had ended gives once"
        assert shared.get("new") is not None and shared.get("new").source == "mine"  # type: ignore[union-attr]
    assert told["old"].trust > 0.5 and told["bad"].forgotten  # type: ignore[union-attr]
    assert told["kept"] == Standing(pinned=True)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[MemoryStore]:
    """A memory of two lessons that earned trusts of .9 and .2."""
    with MemoryStore(tmp_path / "shared") as memory:
        memory.put([lesson("good"), lesson("poor")])
        memory.set_standings([("good", Standing(trust=0.9)), ("poor", Standing(trust=0.2))])
        yield memory


def run(folder: Path, shared: MemoryStore) -> tuple[MemoryStore, dict[str, Given], dict[str, Evidence]]:
    """A run that begins with a memory: its own, what was taken over, and the evidence that it begins with."""
    own, writes = MemoryStore(folder), taken(shared, "mine")
    own.put(writes.lessons)
    own.set_standings(writes.standings)
    given = began(writes)
    return own, given, {id: known.run for id, known in given.items()}


def standing(memory: MemoryStore, id: str) -> Standing:
    found = memory.standing(id)
    assert found is not None
    return found


def test_of_what_nobody_recalled_a_run_says_nothing(tmp_path: Path, shared: MemoryStore) -> None:
    before = [standing(shared, "good"), standing(shared, "poor")]
    for name in ("first", "second"):
        own, given, evidence = run(tmp_path / name, shared)
        assert give(own, shared, given, evidence, []) == given
    assert [standing(shared, "good"), standing(shared, "poor")] == before


def test_evidence_is_added_to_what_stands_there(tmp_path: Path, shared: MemoryStore) -> None:
    own, given, evidence = run(tmp_path / "own", shared)
    evidence["good"] += Evidence(1.0, 0.0)
    give(own, shared, given, evidence, [])
    assert standing(shared, "good").trust > 0.9, "what speaks for a lesson never lowers it"
    evidence["poor"] += Evidence(0.0, 1.0)
    give(own, shared, given, evidence, [])
    assert standing(shared, "poor").trust < 0.2


def test_a_long_run_does_not_undo_what_others_earned_meanwhile(tmp_path: Path, shared: MemoryStore) -> None:
    long, short = run(tmp_path / "long", shared), run(tmp_path / "short", shared)
    short[2]["poor"] += Evidence(20.0, 0.0)
    give(short[0], shared, short[1], short[2], [])
    earned = standing(shared, "poor").trust
    long[2]["poor"] += Evidence(1.0, 0.0)
    give(long[0], shared, long[1], long[2], [])
    assert standing(shared, "poor").trust >= earned > 0.8


def test_what_was_forgotten_meanwhile_stays_forgotten(tmp_path: Path, shared: MemoryStore) -> None:
    own, given, evidence = run(tmp_path / "own", shared)
    shared.forget("good")
    evidence["good"] += Evidence(5.0, 0.0)
    give(own, shared, given, evidence, ["good"])
    assert standing(shared, "good").forgotten


def test_a_run_that_ends_twice_gives_the_second_time_what_it_learnt_since(
    tmp_path: Path, shared: MemoryStore
) -> None:
    own, given, evidence = run(tmp_path / "own", shared)
    evidence["poor"] += Evidence(2.0, 0.0)
    given = give(own, shared, given, evidence, [])
    first = standing(shared, "poor")
    assert give(own, shared, given, evidence, []) == given and standing(shared, "poor") == first
    evidence["poor"] += Evidence(2.0, 0.0)
    give(own, shared, given, evidence, [])
    assert standing(shared, "poor").trust == pytest.approx((1 + 4.0) / (2 + 4.0 + 3.0), abs=1e-6)


def test_two_runs_may_supersede_one_shared_lesson(tmp_path: Path, shared: MemoryStore) -> None:
    """What the second has made of it is not taken, and the run ends."""
    for name in ("first", "second"):
        own, given, evidence = run(tmp_path / name, shared)
        own.put([lesson(name, text=f"{name} says it in other words", cycle=3, run=name, supersedes="good")])
        if name == "first":
            one = own, given, evidence
    for name, (mine, before, known) in (("first", one), ("second", (own, given, evidence))):
        give(mine, shared, before, known | {name: HELPS}, [name])
    assert [each.id for each in shared.all()] == ["first", "good", "poor"]
    assert shared.check() == 3
