"""Lessons of another memory, taken in as they stood there: near copies, superseded and forgotten ones too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.admission import NotAdmitted, says_something
from moevolve.records import Lesson

Stood = tuple[Lesson, Standing]


def take_in(memory: MemoryStore, given: Sequence[Stood]) -> list[NotAdmitted]:
    """Writes lessons in one commit; returns why those that are not taken are not.

    What another memory admitted is not held to likeness again. One that supersedes what is not here stands without it.

    Raises:
        UsageError: a name, a cycle or a trust that does not fit, or lessons that supersede each other in a circle; then
            nothing is written.
    """
    refused: list[NotAdmitted] = []
    taken: dict[str, Stood] = {}
    filled = memory.count() > 0
    for lesson, standing in given:
        try:
            says_something(lesson)
            if lesson.id in taken or memory.get(lesson.id) is not None:
                raise NotAdmitted("known", f"the memory holds a lesson {lesson.id!r}")
            if filled and not standing.forgotten:
                _new(memory, lesson)
        except NotAdmitted as error:
            refused.append(error)
        else:
            taken[lesson.id] = lesson, standing
    if taken:
        memory.adopt(list(_superseded_first(taken)))
    return refused


def _new(memory: MemoryStore, lesson: Lesson) -> None:
    """Refuses a text that another lesson of its skill has."""
    for hit in memory.search(Query(text=lesson.text, skill=lesson.skill, k=4)):
        if hit.lesson.text == lesson.text and hit.lesson.id != lesson.supersedes:
            raise NotAdmitted("known", f"lesson {hit.lesson.id!r} says the same")


def _superseded_first(taken: dict[str, Stood]) -> Iterator[Stood]:
    """Lessons from the oldest cycle to the newest, each after what it supersedes."""
    done: set[str] = set()
    for id in sorted(taken, key=lambda id: (taken[id][0].cycle, id)):
        chain: dict[str, None] = {}
        while id in taken and id not in done:
            if id in chain:
                circle = ", ".join(sorted(chain)[:4])
                raise UsageError(f"lessons supersede each other in a circle: {circle}")
            chain[id] = None
            id = taken[id][0].supersedes or ""
        for each in reversed(chain):
            done.add(each)
            yield taken[each]
