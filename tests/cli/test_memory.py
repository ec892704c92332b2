"""`memory`: lessons that a person searches, keeps and moves, and what a memory does not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, Recorded

from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.records import Lesson


@pytest.fixture
def memory(moevolve: Command) -> Any:
    """The command on the memory `lessons`; returns stdout of a call that must end with `code`."""

    def call(*words: str, code: int = 0, folder: str = "lessons") -> str:
        done = moevolve("memory", folder, *words)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    return call


def ids(memory: Any, *words: str) -> list[str]:
    return [hit["lesson"]["id"] for hit in json.loads(memory("search", *words, "--json"))]


def test_a_lesson_is_added_found_pinned_forgotten_and_purged(memory: Any) -> None:
    carry = memory("add", "Carry the digit when a sum passes nine", "--skill", "math/add").strip()
    memory("add", "Reverse letters from the end", "--skill", "text/reverse", "--kind", "procedure")
    assert ids(memory, "when to carry a digit")[0] == carry
    assert ids(memory, "when to carry a digit", "--skill", "math") == [carry]
    assert ids(memory, "digit letters", "--kind", "procedure") != [carry]
    assert "carry" in memory("search", "carry").lower()
    memory("pin", carry)
    assert json.loads(memory("show", carry, "--json"))["standing"]["pinned"]
    assert "text" in memory("show", carry)
    memory("forget", carry)
    assert ids(memory, "carry digit") == []
    assert json.loads(memory("stats", "--json"))["forgotten"] == 1
    memory("purge", carry)
    assert "no lesson" in memory("show", carry, code=2)
    assert json.loads(memory("check", "--json")) == {"lessons": 1}


def test_an_update_takes_the_place_of_what_it_supersedes(memory: Any) -> None:
    old = memory("add", "The port is 8080").strip()
    new = memory("add", "The port has been 9090 since May", "--supersedes", old).strip()
    assert ids(memory, "the port is 8080") == [new]
    assert "superseded" in memory("add", "The port is 7070", "--supersedes", old, code=2)


def test_nothing_is_kept_twice_and_no_flood_of_near_copies(memory: Any) -> None:
    memory("add", "carry the digit to the left column")
    assert "says the same" in memory("add", "carry the digit to the left column", "--source", "x", code=2)
    assert "needs a text" in memory("add", "  ", code=2)
    assert "at most" in memory("add", "x" * 9000, code=2)
    memory("add", "carry the digit to the left column 1")
    assert "nearly the same" in memory("add", "carry the digit to the left column 2", code=2)


def test_a_memory_is_exported_and_imported_whole(memory: Any, tmp_path: Path) -> None:
    old = memory("add", "The port is 8080").strip()
    new = memory("add", "The port has been 9090 since May", "--supersedes", old).strip()
    memory("pin", new)
    memory("export", "lessons.jsonl")
    assert "exists" in memory("export", "lessons.jsonl", code=2)
    lines = (tmp_path / "lessons.jsonl").read_text().splitlines()
    (tmp_path / "turned.jsonl").write_text("\ufeff" + "\n".join(reversed(lines)) + "\n")
    assert "2 lessons taken" in memory("import", "turned.jsonl", folder="copy")
    with MemoryStore(tmp_path / "copy") as copy:
        [hit] = copy.search(Query(text="the port is 8080"))
        assert (hit.lesson.id, hit.pinned) == (new, True)
    assert "0 lessons taken, 2 refused" in memory("import", "turned.jsonl", folder="copy")
    (tmp_path / "torn.jsonl").write_text(lines[0][:40] + "\n")
    assert "line 1" in memory("import", "torn.jsonl", folder="copy", code=2)
    circle = [json.loads(lines[0]), json.loads(lines[1])]
    for one, other in ((0, 1), (1, 0)):
        circle[one]["lesson"]["supersedes"] = circle[other]["lesson"]["id"]
    (tmp_path / "circle.jsonl").write_text("\n".join(map(json.dumps, circle)))
    assert "circle" in memory("import", "circle.jsonl", folder="other", code=2)
    assert not (tmp_path / "other" / "data.mdb").exists()


def test_a_runs_lessons_are_read_and_never_changed(memory: Any, recorded: Recorded, tmp_path: Path) -> None:
    run = recorded()
    assert json.loads(memory("stats", "--json", folder=str(run)))["current"] == 0
    assert "is a run" in memory("add", "x", folder=str(run), code=2)
    assert not (run / "memory").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "x"], "neither a run nor a memory"),
        (["pin"], "neither a run nor a memory"),
    ],
)
def test_what_is_not_there_is_said(memory: Any, words: list[str], said: str) -> None:
    assert said in memory(*words, code=2)


def test_bad_numbers_are_refused(memory: Any) -> None:
    memory("add", "carry")
    assert "at least 1" in memory("search", "x", "-k", "0", code=2)
    assert "from 0" in memory("search", "x", "--before-cycle", "-1", code=2)
    assert "k of a query" in memory("search", "x", "-k", "9" * 30, code=2)
    assert "before_cycle" in memory("search", "x", "--before-cycle", "9" * 30, code=2)
    assert ids(memory, "carry", "-k", "9" * 15)
    assert "needs a lesson" in memory("show", code=2)


def test_what_a_run_learnt_is_imported_whole(memory: Any, tmp_path: Path) -> None:
    """Near copies that stand beside each other, lessons that lost what they superseded, and what was forgotten."""
    lessons = [
        Lesson(
            id=f"l{number}",
            skill="text/reverse",
            level=1,
            text=f"rev:abcdefg{number % 3}= reads from the end",
            prompt="",
            answer="",
            success=True,
            run="r",
            cycle=number,
            variant="v",
            supersedes={3: "l2", 5: "l4"}.get(number),
        )
        for number in range(8)
    ]
    with MemoryStore(tmp_path / "lessons") as store:
        store.put(lessons)
        store.set_standings([("l0", Standing(trust=0.25, forgotten=True)), ("l6", Standing(trust=0.75))])
        store.purge("l4")
        before = {id: store.standing(id) for id in (lesson.id for lesson in store.all())}
        current = store.search(Query(k=99))
    memory("export", "lessons.jsonl")
    assert "7 lessons taken, 0 refused" in memory("import", "lessons.jsonl", folder="copy")
    with MemoryStore(tmp_path / "copy") as copy:
        assert {id: copy.standing(id) for id in before} == before
        assert copy.search(Query(k=99)) == current
        assert copy.check() == 7
    memory("export", "again.jsonl", folder="copy")
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "lessons.jsonl").read_text()


@pytest.fixture
def exported(memory: Any, tmp_path: Path) -> list[dict[str, Any]]:
    """Two lessons as they are exported, and a memory `copy` that holds another one."""
    memory("add", "The port is 8080", folder="copy")
    memory("add", "Carry the digit")
    memory("add", "Read letters from the end")
    memory("export", "lessons.jsonl")
    return [json.loads(each) for each in (tmp_path / "lessons.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("lesson", {"cycle": -1}),
        ("lesson", {"cycle": 1 << 50}),
        ("lesson", {"until": -1}),
        ("lesson", {"skill": ""}),
        ("standing", {"trust": 7}),
    ],
)
def test_an_import_that_cannot_be_done_whole_is_not_begun(
    memory: Any, tmp_path: Path, exported: list[dict[str, Any]], what: str, change: dict[str, Any]
) -> None:
    bad = [exported[0], {**exported[1], what: {**exported[1][what], **change}}]
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, bad)))
    said = memory("import", "bad.jsonl", folder="copy", code=2)
    assert exported[1]["lesson"]["id"] in said or "skill" in said
    assert json.loads(memory("stats", "--json", folder="copy"))["current"] == 1


def test_what_supersedes_a_lesson_that_is_not_taken_stands_without_it(
    memory: Any, tmp_path: Path, exported: list[dict[str, Any]]
) -> None:
    old, new = exported
    old["lesson"] |= {"id": "old", "text": "The port is 8080"}
    new["lesson"] |= {"supersedes": "old"}
    (tmp_path / "lessons.jsonl").write_text("\n".join(map(json.dumps, exported)))
    assert "1 lessons taken, 1 refused" in memory("import", "lessons.jsonl", folder="copy")
    assert json.loads(memory("stats", "--json", folder="copy"))["current"] == 2
