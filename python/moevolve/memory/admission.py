"""What may enter a memory that several writers share: no text twice, no flood of near copies, nothing endless."""

from __future__ import annotations

import re

from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, Query, Weights
from moevolve.records import Lesson

MAX_CHARACTERS = 8192
"""Longest text of a lesson."""

NEAR = 0.7
"""Share of all their words that two near copies have in common (Jaccard)."""

COPIES = 2
"""Near copies that one skill keeps."""

_WORDS = re.compile(r"\w+")


class NotAdmitted(UsageError):
    """A lesson that a memory does not take, with the reason."""


def admit(memory: MemoryStore, lesson: Lesson) -> None:
    """Writes a lesson if it says something new.

    Raises:
        NotAdmitted: its text is empty or too long, is in the memory already, or has near copies there that it does not
            supersede.
    """
    if not lesson.text.strip():
        raise NotAdmitted("a lesson needs a text")
    if len(lesson.text) > MAX_CHARACTERS:
        raise NotAdmitted(
            f"a lesson of {len(lesson.text):,} characters: at most {MAX_CHARACTERS:,} are kept, so say less or "
            "write several"
        )
    known = memory.get(lesson.id)
    if known is not None and known.text != lesson.text:
        raise NotAdmitted(f"the memory holds a lesson {lesson.id!r}: supersede it under another id")
    if known is not None:
        raise NotAdmitted(f"lesson {lesson.id!r} says the same")
    nearest = memory.search(
        Query(text=lesson.text, skill=lesson.skill, k=COPIES + 8, weights=Weights(trust=0.0))
    )
    words = _words(lesson.text)
    near = []
    for hit in nearest:
        if hit.lesson.id == lesson.supersedes:
            continue
        if hit.lesson.text == lesson.text:
            raise NotAdmitted(f"lesson {hit.lesson.id!r} says the same")
        if _shared(words, _words(hit.lesson.text)) >= NEAR:
            near.append(hit.lesson.id)
    if len(near) >= COPIES:
        raise NotAdmitted(
            f"lessons {' and '.join(map(repr, near[:COPIES]))} say nearly the same: supersede one"
        )
    memory.put([lesson])


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORDS.findall(text.lower()))


def _shared(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))
