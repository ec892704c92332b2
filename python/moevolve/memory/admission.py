"""What may enter a memory that several writers share: no text twice, no flood of near copies, nothing endless, and nobody's
word against what another one said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, Query, Weights
from moevolve.records import Lesson

MAX_CHARACTERS = 8192
"""Longest text of a lesson."""

NEAR = 0.7
"""Share of all their words that two near copies have in common (Jaccard)."""

COPIES = 2
"""Near copies that one skill keeps."""

Reason = Literal["empty", "long", "known", "forgotten", "copies", "contradicts"]

_WORDS = re.compile(r"\w+")


class NotAdmitted(UsageError):
    """A lesson that a memory does not take.

    Args:
        reason: the reason's name, to count by.
        detail: the reason in words.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def admit(memory: MemoryStore, lesson: Lesson) -> None:
    """Writes a lesson if it says something new.

    Raises:
        NotAdmitted: its text is empty or too long, is in the memory already, was forgotten there, or has near copies there
            that it does not supersede.
    """
    says_something(lesson)
    known = memory.get(lesson.id)
    if known is not None and known.text != lesson.text:
        raise NotAdmitted("known", f"the memory holds a lesson {lesson.id!r}: supersede it under another id")
    if known is not None:
        raise NotAdmitted("known", f"lesson {lesson.id!r} says the same")
    _not_forgotten(memory, lesson)
    near = [each.id for each in near_copies(memory, lesson) if each.id != lesson.supersedes]
    if len(near) >= COPIES:
        raise NotAdmitted(
            "copies",
            f"lessons {' and '.join(map(repr, near[:COPIES]))} say nearly the same: supersede one",
        )
    memory.put([lesson])


def check(memory: MemoryStore, lesson: Lesson, before: Sequence[Lesson]) -> Lesson:
    """A lesson of a program as memory takes it: where it says anew what its own writer said, it supersedes that.

    Args:
        memory: what is on file.
        lesson: the lesson.
        before: what will be written before it.

    Raises:
        NotAdmitted: its text is empty or too long, is there already, was forgotten, or contradicts another writer's.
    """
    says_something(lesson)
    words = words_of(lesson.text)
    waiting = [each for each in before if each.skill == lesson.skill and each.kind == lesson.kind]
    if any(each.id == lesson.id or each.text == lesson.text for each in waiting):
        raise NotAdmitted("known", "it was said before in this cycle")
    if memory.get(lesson.id) is not None:
        raise NotAdmitted("known", f"lesson {lesson.id!r} says the same")
    if any(shared_words(words, words_of(each.text)) >= NEAR for each in waiting):
        raise NotAdmitted("copies", "it nearly says what was said before in this cycle")
    _not_forgotten(memory, lesson)
    near = near_copies(memory, lesson)
    if foreign := [each for each in near if each.source != lesson.source]:
        raise NotAdmitted("contradicts", f"lesson {foreign[0].id!r} of another writer nearly says the same")
    taken = {each.supersedes for each in before}
    if near and near[0].id in taken:
        raise NotAdmitted("copies", f"lesson {near[0].id!r} has been said anew already")
    return msgspec.structs.replace(lesson, supersedes=near[0].id) if near else lesson


def near_copies(memory: MemoryStore, lesson: Lesson) -> list[Lesson]:
    """Lessons of its skill that share most of their words with a lesson, the nearest first.

    Raises:
        NotAdmitted: one of them has its very text.
    """
    nearest = memory.search(
        Query(text=lesson.text, skill=lesson.skill, k=COPIES + 8, weights=Weights(trust=0.0))
    )
    words = words_of(lesson.text)
    for hit in nearest:
        if hit.lesson.text == lesson.text and hit.lesson.id != lesson.supersedes:
            raise NotAdmitted("known", f"lesson {hit.lesson.id!r} says the same")
    return [hit.lesson for hit in nearest if shared_words(words, words_of(hit.lesson.text)) >= NEAR]


def forgotten(memory: MemoryStore, lesson: Lesson) -> Lesson | None:
    """A forgotten lesson with a lesson's text, skill and writer, as far as the nearest tell; None if there is none.

    What did harm and expired does not come back because it is said once more.
    """
    same = Query(text=lesson.text, skill=lesson.skill, source=lesson.source, forgotten=True, k=COPIES + 8)
    hits = memory.search(same)
    return next((hit.lesson for hit in hits if hit.lesson.text == lesson.text), None)


def _not_forgotten(memory: MemoryStore, lesson: Lesson) -> None:
    old = forgotten(memory, lesson)
    if old is not None:
        raise NotAdmitted("forgotten", f"lesson {old.id!r} said the same and was forgotten")


def says_something(lesson: Lesson) -> None:
    """Refuses a text that is empty or too long.

    Raises:
        NotAdmitted: the lesson's is.
    """
    if not lesson.text.strip():
        raise NotAdmitted("empty", "a lesson needs a text")
    if len(lesson.text) > MAX_CHARACTERS:
        raise NotAdmitted(
            "long",
            f"a lesson of {len(lesson.text):,} characters: at most {MAX_CHARACTERS:,} are kept, so say less or "
            "write several",
        )


def words_of(text: str) -> frozenset[str]:
    return frozenset(_WORDS.findall(text.lower()))


def shared_words(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))
