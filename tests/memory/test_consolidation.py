"""Lessons that say the same become one: by their structure, unless outcomes tell them apart, and back again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.consolidation import (
    Member,
    built_on,
    fallen,
    judge,
    merged,
    pooled,
    proposals,
    restored,
    same_text,
)
from moevolve.memory.trust import Evidence
from moevolve.records import Consolidated, Lesson

replace = msgspec.structs.replace


def lesson(id: str, answer: str = "1", prompt: str = "add:1+0=", **fields: object) -> Lesson:
    made = Lesson(
        id=id,
        skill="number/add",
        level=1,
        text=f"{prompt}{answer}",
        prompt=prompt,
        answer=answer,
        success=True,
        run="r",
        cycle=1,
        variant="v0000",
    )
    return replace(made, **fields)


def note(id: str, text: str, **fields: object) -> Lesson:
    return lesson(id, "", "", text=text, kind="procedure", success=False, source="program", **fields)


def groups(
    store: MemoryStore, evidence: dict[str, Evidence] | None = None, rests: object = ()
) -> list[list[str]]:
    found = proposals(store, "r", 2, evidence or {}, rests)  # type: ignore[arg-type]
    return [[each.lesson.id for each in members] for members in found]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return MemoryStore(tmp_path / "memory")


def test_attempts_at_one_prompt_are_one_group_by_outcome_and_writer(store: MemoryStore) -> None:
    store.put(
        [
            lesson("a", "01"),
            lesson("b", "1"),
            lesson("c", "2", success=False, kind="failure"),
            lesson("d", "9", source="poison"),
            lesson("e", "1", prompt="add:0+1="),
        ]
    )
    assert groups(store) == [["a", "b"]]


def test_texts_are_one_group_if_they_share_words_and_every_number(store: MemoryStore) -> None:
    store.put(
        [
            note("a", "carry the digit when a sum of two passes 9"),
            note("b", "Carry the digit, when a sum of two passes 9!"),
            note("c", "carry the digit when a sum of two passes 8"),
            note("d", "write the larger number first"),
        ]
    )
    assert groups(store) == [["a", "b"]]
    assert same_text("at 1.5 or 2", "2 or at 1.5") and not same_text("at 1.5 or 2", "at 1.5 or 3")


def test_what_is_pinned_forgotten_of_this_cycle_or_rests_is_left_alone(store: MemoryStore) -> None:
    store.put([lesson("a", "01"), lesson("b"), lesson("late", "001", cycle=2)])
    assert groups(store) == [["a", "b"]]
    assert groups(store, rests={frozenset({"a", "b"})}) == []
    store.set_standings([("a", Standing(pinned=True))])
    assert groups(store) == []
    store.set_standings([("a", Standing(forgotten=True))])
    assert groups(store) == []


def test_outcomes_of_what_a_lesson_superseded_are_its_own_as_well(store: MemoryStore) -> None:
    store.put(
        [note("old", "carry when it passes 9"), note("new", "carry once it passes 9", supersedes="old")]
    )
    assert groups(store) == [], "nobody tried the old one"
    known = {"old": Evidence(3.0, 1.0)}
    assert groups(store, known) == [["new", "old"]]
    [members] = proposals(store, "r", 2, known, ())
    assert pooled(members) == Evidence(3.0, 1.0)
    one = merged("r", 2, members)
    assert (one.text, one.supersedes, one.sources) == ("carry once it passes 9", "new", ["new", "old"])
    store.put([one])
    assert proposals(store, "r", 3, known, ()) == [], "it has been done"


def member(id: str, good: float, bad: float, **fields: object) -> Member:
    return Member(lesson(id, **fields), Evidence(good, bad))  # type: ignore[arg-type]


def test_lessons_that_attempts_tell_apart_stay_apart() -> None:
    assert judge([member("a", 0, 0), member("b", 9, 0)])[0]
    decided, why = judge([member("a", 20, 0), member("b", 0, 20)])
    assert not decided and why == "attempts tell a and b apart"


def test_the_one_has_the_words_of_the_best_and_the_evidence_of_all() -> None:
    members = [member("a", 1, 3, answer="01"), member("b", 4, 0, answer="1"), member("c", 0, 0, answer="+1")]
    one = merged("r", 7, members)
    assert (one.answer, one.cycle, one.supersedes, one.sources) == ("1", 7, "b", ["a", "b", "c"])
    assert pooled(members) == Evidence(5, 3)
    assert merged("r", 7, members).id == one.id != merged("r", 8, members).id


def test_wrong_answers_to_one_prompt_stand_in_one_lesson() -> None:
    wrong = {"success": False, "kind": "failure"}
    one = merged("r", 2, [member("a", 0, 0, answer="2", **wrong), member("b", 0, 0, answer="3", **wrong)])
    assert one.answer == "2; 3" and one.text == "add:1+0=2; 3"


def record(name: str, made: str, *sources: str) -> Consolidated:
    return Consolidated(
        cycle=1,
        merge=name,
        skill="s",
        about="fact",
        decision="merged",
        reason="",
        lesson=made,
        sources=list(sources),
        evidence=[(0.0, 0.0)] * len(sources),
        trust=0.5,
    )


def test_taking_one_back_takes_back_what_was_made_of_it_and_brings_its_sources_back(
    store: MemoryStore,
) -> None:
    members = [Member(each, Evidence()) for each in (lesson("a", "01"), lesson("b"))]
    store.put([each.lesson for each in members])
    one = merged("r", 2, members)
    store.put([one])
    store.set_standings([("a", Standing(forgotten=True))])
    assert [hit.lesson.id for hit in store.search(Query(k=9))] == [one.id]
    merges = [
        record("m001", one.id, "a", "b"),
        record("m002", "x", one.id, "c"),
        record("m003", "y", "d", "e"),
    ]
    gone = built_on(merges, "m001")
    assert [each.merge for each in gone] == ["m002", "m001"] and built_on(merges, "m009") == []
    standings = restored(gone, {"b": Evidence(0.0, 30.0)})
    assert standings["a"] == Standing() and standings["b"].forgotten, "harm is not forgotten with it"
    assert standings[one.id].forgotten and standings["x"].forgotten
    store.set_standings([(id, standing) for id, standing in standings.items() if store.get(id) is not None])
    assert [hit.lesson.id for hit in store.search(Query(k=9))] == ["a"]


def test_what_was_made_one_is_forgotten_with_it(store: MemoryStore) -> None:
    """Also what its lessons were made of, or the words that did harm would hold again."""
    store.put([lesson("a", "01"), lesson("b")])
    first = merged("r", 2, [Member(each, Evidence()) for each in (lesson("a", "01"), lesson("b"))])
    store.put([first, lesson("c", "+1", cycle=2)])
    second = merged("r", 3, [Member(first, Evidence(1.0, 0.0)), member("c", 0, 0, answer="+1")])
    store.put([second])
    assert (first.text, second.text, second.supersedes) == ("add:1+0=1", "add:1+0=1", first.id)
    merges = [record("m001", first.id, "a", "b"), record("m002", second.id, first.id, "c")]
    assert fallen(merges, ["a", "x"], {}) == {}
    standings = fallen(merges, [second.id], {"c": Evidence(1.0, 0.0)})
    assert standings.keys() == {"a", "b", "c", first.id}
    assert all(each.forgotten for each in standings.values()) and standings["c"].trust > 0.5
    store.set_standings([*standings.items(), (second.id, Standing(trust=0.1, forgotten=True))])
    assert store.search(Query(k=9)) == []


def test_a_lesson_whose_merge_was_taken_back_may_be_made_one_again(store: MemoryStore) -> None:
    members = [Member(each, Evidence()) for each in (lesson("a", "01"), lesson("b"))]
    store.put([each.lesson for each in members])
    for cycle in (2, 3):
        one = merged("r", cycle, members)
        store.put([one])
        assert one.supersedes == "b"
        store.set_standings([("a", Standing(forgotten=True))])
        assert [hit.lesson.id for hit in store.search(Query(k=9))] == [one.id]
        store.set_standings(restored([record("m", one.id, "a", "b")], {}).items())
    assert sorted(hit.lesson.id for hit in store.search(Query(k=9))) == ["a", "b"]
    store.check()
