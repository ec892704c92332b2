"""Memory that outlives runs: what a run takes over, and what it gives back."""

from __future__ import annotations

from pathlib import Path

from moevolve.journal.lessons import MemoryStore, Standing
from moevolve.memory.shared import BEFORE, described, evidence, give, taken
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
    assert evidence(writes)["b"].trust > 0.5 == evidence(writes)["d"].trust
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
        assert give(own, shared, known, ["new", "old"]) == 1
        assert give(own, shared, known, ["new", "old"]) == 0, "twice is once"
        told = {each.id: shared.standing(each.id) for each in shared.all()}
        assert shared.get("new") is not None and shared.get("new").source == "mine"  # type: ignore[union-attr]
    assert told["old"].trust > 0.5 and told["bad"].forgotten  # type: ignore[union-attr]
    assert told["kept"] == Standing(pinned=True)
