"""What a cycle's practice leaves for memory: some of its graded attempts, and what programs gave it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from moevolve.config.memory import MemorySection
from moevolve.memory.admission import NotAdmitted, check
from moevolve.memory.lessons import LessonMemory
from moevolve.protocol.requests import Note
from moevolve.records import Lesson
from moevolve.tasks.task import Task

PROGRAM = "program"
"""The writer of what programs gave memory, whichever variant's."""
POISON = "poison"
"""The writer of wrong answers that a study put beside the confirmed ones."""

Seen = tuple[Task, str, bool]
"""A task, what was answered, and whether that was right."""


class Admitted(msgspec.Struct, frozen=True):
    """Texts of programs that are kept, and why others are not."""

    lessons: list[Lesson]
    refused: dict[str, int] = {}
    """Reason -> count: `quota`, `contradicts` and those of `NotAdmitted`."""


def of_attempts(
    memory: LessonMemory, section: MemorySection, cycle: int, variant: str, seen: Iterable[Seen]
) -> list[Lesson]:
    """A few lessons of every (skill, level, outcome), none of which memory has already."""
    kept: dict[tuple[str, int, bool], dict[str, Lesson]] = {}
    for task, answer, success in seen:
        cell = kept.setdefault((task.skill, task.level, success), {})
        if len(cell) >= section.keep or task.identity in cell:
            continue
        lesson = _graded(memory.run, cycle, variant, task, answer, success)
        if lesson.text not in {each.text for each in cell.values()} and not memory.knows(lesson):
            cell[task.identity] = lesson
    lessons = [lesson for cell in kept.values() for lesson in cell.values()]
    return lessons + _poisoned(lessons) if section.mode == "poisoned" else lessons


def _graded(run: str, cycle: int, variant: str, task: Task, answer: str, success: bool) -> Lesson:
    return Lesson(
        id=_id(run, cycle, variant, task.identity, answer),
        skill=task.skill,
        level=task.level,
        text=f"{task.prompt}{answer}",
        prompt=task.prompt,
        answer=answer,
        success=success,
        run=run,
        cycle=cycle,
        variant=variant,
        kind="fact" if success else "failure",
    )


def _poisoned(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Beside each right answer that of another lesson of its skill, which nobody confirmed."""
    right = [lesson for lesson in lessons if lesson.success]
    poison = []
    for index, lesson in enumerate(right):
        others = [each for each in right[index + 1 :] + right[:index] if each.skill == lesson.skill]
        wrong = next((each.answer for each in others if each.answer != lesson.answer), None)
        if wrong is not None:
            poison.append(
                msgspec.structs.replace(
                    lesson,
                    id=_id(POISON, lesson.id, wrong),
                    text=f"{lesson.prompt}{wrong}",
                    answer=wrong,
                    source=POISON,
                )
            )
    return poison


def of_programs(
    memory: LessonMemory,
    section: MemorySection,
    cycle: int,
    variant: str,
    given: Iterable[tuple[Task, Note]],
) -> Admitted:
    """What of the texts that a program's attempts gave memory is kept, in the order of the attempts.

    Programs may say again what they said in an earlier cycle: the later text supersedes the earlier one. What nearly says
    what another writer said, with other words or numbers in it, contradicts that and is not kept.
    """
    lessons: list[Lesson] = []
    refused: Counter[str] = Counter()
    for task, note in given:
        lesson = Lesson(
            id=_id(memory.run, cycle, variant, task.skill, note.text),
            skill=task.skill,
            level=task.level,
            text=note.text,
            prompt="",
            answer="",
            success=False,
            run=memory.run,
            cycle=cycle,
            variant=variant,
            kind=note.kind,
            source=PROGRAM,
        )
        if len(lessons) >= section.quota:
            refused["quota"] += 1
            continue
        try:
            lessons.append(check(memory.store, lesson, lessons))
        except NotAdmitted as error:
            refused[error.reason] += 1
    return Admitted(lessons, dict(sorted(refused.items())))


def _id(*parts: object) -> str:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=12).hexdigest()
