"""What a cycle's practice leaves: a bounded choice of attempts, and of programs' texts what says something new."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from moevolve.config.memory import MemorySection
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.lessons import LessonMemory, Writes
from moevolve.memory.writing import PROGRAM, of_attempts, of_programs
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import Note
from moevolve.tasks.task import Task

SECTION = MemorySection()


@pytest.fixture
def memory(tmp_path: Path) -> LessonMemory:
    mine = LessonMemory(MemoryStore(tmp_path), "r", SECTION)
    mine.open_cycle(99)
    return mine


def task(prompt: str = "rev:ab=", skill: str = "text/reverse", level: int = 1) -> Task:
    return Task(prompt=prompt, skill=skill, level=level)


def given(*texts: str, kind: str = "procedure") -> list[tuple[Task, Note]]:
    return [(task(), Note(text=text, kind=kind)) for text in texts]  # type: ignore[arg-type]


def written(
    memory: LessonMemory, cycle: int, *texts: str, section: MemorySection = SECTION
) -> dict[str, int]:
    """What is refused of some texts; the others are in memory afterwards."""
    admitted = of_programs(memory, section, cycle, "v0001", given(*texts))
    memory.write(Writes(admitted.lessons))
    return admitted.refused


def current(memory: LessonMemory) -> list[str]:
    return sorted(hit.lesson.text for hit in memory.store.search(Query(k=100)))


def test_attempts_of_a_cell_are_kept_up_to_a_number_and_never_twice(memory: LessonMemory) -> None:
    seen = [(task(f"rev:{letter}b="), f"b{letter}", letter != "d") for letter in "abcdabcd"]
    lessons = of_attempts(memory, SECTION, 1, "v", seen)
    assert [(each.prompt, each.kind) for each in lessons] == [
        ("rev:ab=", "fact"),
        ("rev:bb=", "fact"),
        ("rev:db=", "failure"),
    ]
    memory.write(Writes(lessons))
    again = of_attempts(memory, SECTION, 2, "v", seen)
    assert [each.prompt for each in again] == ["rev:cb="], "the others are known"


def test_tasks_of_one_prompt_leave_a_lesson_each_where_they_say_something_else(memory: LessonMemory) -> None:
    talks = [(Message("system", f"The room is {n}."), Message("user", "Which?")) for n in (1, 2, 2, 3)]
    tasks = [Task(prompt="Which?", messages=talk, skill="a/rooms", level=1) for talk in talks]
    seen = [(each, answer, True) for each, answer in zip(tasks, ("1", "2", "two", "2"), strict=True)]
    lessons = of_attempts(memory, MemorySection(keep=9), 1, "v", seen)
    assert [each.text for each in lessons] == ["Which?1", "Which?2"]
    alike = of_attempts(memory, SECTION, 1, "v", [(tasks[3], "2", True)])
    assert alike[0].id not in {each.id for each in lessons}


def test_a_text_is_kept_once(memory: LessonMemory) -> None:
    assert written(
        memory, 1, "carry the digit when a sum passes nine", "carry the digit when a sum passes nine"
    ) == {"known": 1}
    assert written(memory, 2, "carry the digit when a sum passes nine") == {"known": 1}
    assert len(current(memory)) == 1


def test_what_is_said_anew_supersedes_what_was_said(memory: LessonMemory) -> None:
    for cycle, number in enumerate((8, 9, 10), 1):
        assert written(memory, cycle, f"payloads up to {number} letters need no split at all here") == {}
    assert current(memory) == ["payloads up to 10 letters need no split at all here"]
    memory.store.check()


def test_against_another_writers_word_a_program_says_nothing(memory: LessonMemory) -> None:
    memory.write(
        Writes(of_attempts(memory, SECTION, 1, "v", [(task("the port of zarvex today is "), "80", True)]))
    )
    assert written(memory, 2, "the port of zarvex today is 81") == {"contradicts": 1}
    assert current(memory) == ["the port of zarvex today is 80"]


def test_a_flood_is_held_by_its_quota_and_by_its_likeness(memory: LessonMemory) -> None:
    draw = Random(3)
    words = [f"word{number}" for number in range(300)]
    copies = [" ".join([*words[:11], f"copy{number}"]) for number in range(1000)]
    assert written(memory, 1, *copies) == {"copies": 999}
    others = [" ".join(draw.choices(words[20:], k=9)) for _ in range(500)]
    refused = written(memory, 2, *others)
    assert refused["quota"] >= 500 - SECTION.quota - 5
    assert len(current(memory)) <= 1 + SECTION.quota
    assert {hit.lesson.source for hit in memory.store.search(Query(k=100))} == {PROGRAM}


@pytest.mark.parametrize(("text", "reason"), [(" \n", "empty"), ("word " * 3000, "long"), ("same", "known")])
def test_what_says_nothing_is_refused_by_name(memory: LessonMemory, text: str, reason: str) -> None:
    assert written(memory, 1, "same") == {}
    assert written(memory, 2, text) == {reason: 1}


@pytest.mark.parametrize(
    "text", ["\ud800".encode("utf-8", "replace").decode(), "数字の繰り上がり", "\x00\x1b[2J", "🙂" * 900]
)
def test_texts_of_any_script_are_kept_as_they_are(memory: LessonMemory, text: str) -> None:
    assert written(memory, 1, text) == {}
    assert current(memory) == [text]


def test_the_order_of_attempts_decides_and_nothing_else(memory: LessonMemory, tmp_path: Path) -> None:
    texts = [f"{word} is what this skill is about" for word in ("order", "length", "carry")]
    first = of_programs(memory, SECTION, 1, "v", given(*texts))
    assert first == of_programs(memory, SECTION, 1, "v", given(*texts))
    assert [each.text for each in first.lessons] == texts[:1]


def expire(memory: LessonMemory, text: str) -> None:
    """What outcomes do to a lesson that does harm."""
    [id] = [hit.lesson.id for hit in memory.store.search(Query(k=100)) if hit.lesson.text == text]
    memory.write(Writes(standings=[(id, Standing(trust=0.1, forgotten=True))]))


def test_what_expired_does_not_come_back_when_it_is_said_again(memory: LessonMemory) -> None:
    text = "write every sum from the right to the left"
    assert written(memory, 1, text) == {}
    expire(memory, text)
    assert written(memory, 2, text) == {"forgotten": 1}
    assert written(memory, 3, "carry the digit when a sum passes nine", text) == {"forgotten": 1}
    assert current(memory) == ["carry the digit when a sum passes nine"]


def test_an_attempt_that_expired_is_not_kept_again(memory: LessonMemory) -> None:
    seen = [(task("rev:ab="), "ba", True)]
    memory.write(Writes(of_attempts(memory, SECTION, 1, "v", seen)))
    expire(memory, "rev:ab=ba")
    assert of_attempts(memory, SECTION, 2, "v", seen) == []
    assert len(of_attempts(memory, SECTION, 2, "v", [(task("rev:ac="), "ca", True)])) == 1


def test_what_holds_again_since_its_successor_expired_may_be_said_anew(memory: LessonMemory) -> None:
    """A cycle whose writes memory refuses could never end."""
    first, second, third = (
        f"payloads up to {number} letters need no split at all here" for number in (8, 9, 10)
    )
    assert written(memory, 1, first) == written(memory, 2, second) == {}
    expire(memory, second)
    assert current(memory) == [first]
    assert written(memory, 3, third) == {}
    assert current(memory) == [third]
    expire(memory, third)
    assert current(memory) == [first]
    memory.store.check()
