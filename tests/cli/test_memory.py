"""`memory`: lessons that a person searches, keeps and moves, and what a memory does not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, Recorded

from moevolve.journal.lessons import MemoryStore, Query


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
    assert "needs a lesson" in memory("show", code=2)
