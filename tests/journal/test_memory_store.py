"""Lessons that outlive the runs, written by one process and read by another."""

import subprocess
import sys

import msgspec
import pytest
import store_samples as samples

from moevolve import _native
from moevolve.errors import StoreError, UsageError
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.journal.store import RunStore
from moevolve.records import SCHEMA_VERSION


def ids(lessons):
    return [lesson.id for lesson in lessons]


def found(memory, **query):
    return [hit.lesson.id for hit in memory.search(Query(**query))]


def test_reading_a_memory_that_is_not_there_finds_nothing_and_makes_nothing(tmp_path):
    memory = MemoryStore(tmp_path / "memory")
    assert (memory.count(), memory.search(Query(text="x")), memory.by_skill("s"), list(memory.all())) == (
        0,
        [],
        [],
        [],
    )
    assert not memory.forget("x")
    assert not (tmp_path / "memory").exists()


def test_lessons_come_back_by_skill_run_and_words(tmp_path):
    lessons = [
        samples.lesson("a", "rev abc cba"),
        samples.lesson("b", "rev abd dba", cycle=2),
        samples.lesson("c", "srt abc abc", skill="text/sort"),
        samples.lesson("d", "rev abc cba", run="other"),
    ]
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put(lessons)
        assert ids(memory.by_skill("text/reverse", 10)) == ["b", "a", "d"]
        assert ids(memory.by_skill("text/reverse", 1, run="r")) == ["b"]
        assert found(memory, text="ABC, rev", k=2) == ["a", "d"]
        assert found(memory, text="abc", skill="text/sort") == ["c"]
        assert found(memory, text="abc", run="other") == ["d"]
        assert list(memory.all()) == lessons
        assert memory.forget("a")
        assert (memory.count(), found(memory, text="cba")) == (4, ["d"])
        assert memory.purge("a")
        assert (memory.count(), memory.get("a"), memory.check()) == (3, None, 3)


def test_the_order_of_writing_does_not_matter(tmp_path):
    lessons = [samples.lesson(f"{number:02}", f"word{number % 3} common") for number in range(12)]
    answers = []
    for name, order in (("a", lessons), ("b", lessons[::-1])):
        with MemoryStore(tmp_path / name) as memory:
            for lesson in order:
                memory.put([lesson])
            answers.append((found(memory, text="word1 common", k=6), memory.by_skill("text/reverse")))
    assert answers[0] == answers[1]


def test_a_closed_memory_opens_again(tmp_path):
    memory = MemoryStore(tmp_path / "memory")
    memory.put([samples.lesson("a")])
    memory.close()
    memory.close()
    assert memory.count() == 1


def test_a_memory_of_an_earlier_schema_is_read_and_stays_one_that_its_version_reads(tmp_path):
    folder = tmp_path / "memory"
    made = _native.MemoryStore.open(folder, SCHEMA_VERSION, create=True)
    assert made is not None
    made.close()
    with MemoryStore(folder) as memory:
        for number in range(20):
            memory.put([samples.lesson(f"{number:02}", f"rev word{number} abc")])
        assert found(memory, text="word7") == ["07"]
        assert memory.check() == 20
    version = _native.MemoryStore.open(folder, SCHEMA_VERSION)
    assert version is not None and version.check() == 20
    version.close()


def test_a_memory_of_this_schema_is_refused_by_the_version_before(tmp_path):
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put([samples.lesson("a", "rev abc cba")])
    with pytest.raises(StoreError, match="schema 4"):
        _native.MemoryStore.open(tmp_path / "memory", SCHEMA_VERSION)


def test_a_name_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="lesson id"):
        MemoryStore(tmp_path / "memory").put([samples.lesson("x" * 500)])


def test_a_run_is_no_memory(tmp_path):
    RunStore.create(tmp_path / "run").close()
    with pytest.raises(StoreError, match="says it is a run"):
        MemoryStore(tmp_path / "run" / "journal").count()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import store_samples as samples
from moevolve.journal.lessons import MemoryStore, Query

memory = MemoryStore(Path(sys.argv[1]))
for number in range(25):
    memory.put([samples.lesson(f"{sys.argv[2]}{number:02}", f"shared {sys.argv[2]}", run=sys.argv[2])])
    assert any(hit.lesson.run == sys.argv[2] for hit in memory.search(Query(text=f"shared {sys.argv[2]}")))
"""


def test_several_processes_write_and_read_at_once(tmp_path):
    folder = str(tmp_path / "memory")
    here = str(samples.Path(samples.__file__).parent)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, folder, name, here]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with MemoryStore(tmp_path / "memory") as memory:
        assert memory.count() == 75
        for name in "abc":
            assert len(memory.by_skill("text/reverse", run=name)) == 25
            assert len(found(memory, text=name, k=100)) == 25


def test_lessons_of_another_memory_are_taken_as_they_stood_and_all_or_none(tmp_path):
    """Of two that supersede one lesson the later comes after the earlier, and what is not here is superseded by nobody."""
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put([samples.lesson("a", "the port is 1")])
        given = [
            ("b", "the port is 2", "a", Standing(trust=0.25)),
            ("c", "the port is 3", "a", Standing(trust=0.75, pinned=True)),
            ("d", "the host is 4", "gone", Standing()),
            ("e", "the host is 5", None, Standing(forgotten=True)),
        ]
        rows = [
            (msgspec.structs.replace(samples.lesson(id, text), supersedes=old), standing)
            for id, text, old, standing in given
        ]
        with pytest.raises(UsageError, match="trust"):
            memory.adopt([*rows, (samples.lesson("f"), Standing(trust=2.0))])
        assert memory.count() == 1
        memory.adopt(rows)
        assert memory.check() == 5
        assert sorted(found(memory, text="the port host is")) == ["c", "d"]
        assert found(memory, text="host", forgotten=True) == ["e"]
        assert memory.standing("b") == Standing(trust=0.25)
        assert memory.standing("c") == Standing(trust=0.75, pinned=True)
        circle = [msgspec.structs.replace(rows[at][0], id=f"x{at}", supersedes=f"x{1 - at}") for at in (0, 1)]
        with pytest.raises(UsageError, match="comes after"):
            memory.adopt([(lesson, Standing()) for lesson in circle])


def test_numbers_out_of_range_are_refused_by_name(tmp_path):
    with MemoryStore(tmp_path / "memory") as memory:
        for fields in ({"cycle": -1}, {"cycle": 1 << 40}, {"until": -1}, {"until": 1 << 70}):
            with pytest.raises(UsageError, match="of lesson 'a'"):
                memory.put([msgspec.structs.replace(samples.lesson("a"), **fields)])
        memory.put([samples.lesson("a", "x")])
        for fields in ({"k": -1}, {"k": 1 << 70}, {"before_cycle": -1}, {"before_cycle": 1 << 70}):
            with pytest.raises(UsageError, match="of a query"):
                memory.search(Query(text="x", **fields))  # type: ignore[arg-type]
        assert found(memory, text="x", k=1 << 60) == ["a"], "many are asked for, and there is one"
