"""Lessons that outlive the runs, written by one process and read by another."""

import subprocess
import sys

import pytest
import store_samples as samples

from moevolve.errors import StoreError, UsageError
from moevolve.journal.lessons import MemoryStore, Query
from moevolve.journal.store import RunStore


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
