"""Lessons of one run: written after each cycle, recalled by skill and text.

A cycle recalls only what earlier cycles of its own run wrote, so a resumed or replayed run recalls the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from moevolve.journal.lessons import MemoryStore
from moevolve.records import Lesson
from moevolve.tasks.task import Task

PER_CELL = 2
"""Successes and failures kept of one (skill, level) in one cycle, each."""


class LessonMemory:
    """The lessons of one run.

    Args:
        store: the memory in the run's folder.
        run: the run's name; only its lessons are read and written.
    """

    def __init__(self, store: MemoryStore, run: str) -> None:
        self.store = store
        self.run = run
        self._cycle = 0
        self._by_skill: dict[str, list[Lesson]] = {}

    def open_cycle(self, cycle: int) -> None:
        """Fixes what may be recalled during `cycle`: the lessons of the cycles before it."""
        self._cycle = cycle
        self._by_skill = {}

    def recall(self, skill: str, query: str, k: int) -> list[Lesson]:
        """The `k` successful lessons of `skill` whose prompt shares most characters with `query`, best first."""
        lessons = self._by_skill.get(skill)
        if lessons is None:
            lessons = [
                lesson
                for lesson in self.store.by_skill(skill, 4096, run=self.run)
                if lesson.cycle < self._cycle and lesson.success
            ]
            self._by_skill[skill] = lessons
        wanted = set(query)
        ranked = sorted(
            lessons,
            key=lambda lesson: (
                -len(wanted & set(lesson.prompt)) / max(1, len(wanted | set(lesson.prompt))),
                abs(len(lesson.prompt) - len(query)),
                lesson.id,
            ),
        )
        return ranked[:k]

    def write(self, cycle: int, variant: str, seen: Iterable[tuple[Task, str, bool]]) -> int:
        """Keeps a few lessons of every (skill, level, outcome); returns how many."""
        kept: dict[tuple[str, int, bool], list[Lesson]] = {}
        for task, answer, success in seen:
            cell = kept.setdefault((task.skill, task.level, success), [])
            if len(cell) >= PER_CELL or any(lesson.prompt == task.prompt for lesson in cell):
                continue
            name = f"{self.run}/{cycle}/{variant}/{task.prompt}/{answer}"
            cell.append(
                Lesson(
                    id=hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
                    skill=task.skill,
                    level=task.level,
                    text=f"{task.prompt}{answer}",
                    prompt=task.prompt,
                    answer=answer,
                    success=success,
                    run=self.run,
                    cycle=cycle,
                    variant=variant,
                )
            )
        lessons = [lesson for cell in kept.values() for lesson in cell]
        if lessons:
            self.store.put(lessons)
        return len(lessons)
