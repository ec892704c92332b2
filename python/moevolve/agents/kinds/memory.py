"""Requests to memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.protocol.requests import SHOWN, Note, Recall, RecallRequest
from moevolve.records import LessonKind

Weight = Annotated[float, Meta(ge=0.0, le=100.0)]


class WireRecall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query: at most `k` lessons, and where `budget` is given at most so many characters of them.

    What is left out of `words`, `vector` and `trust` weighs as the run says.
    """

    query: str
    k: Annotated[int, Meta(ge=1)] = 4
    budget: Annotated[int, Meta(ge=1)] | None = None
    kinds: Annotated[tuple[LessonKind, ...], Meta(min_length=1)] | None = None
    words: Weight | None = None
    vector: Weight | None = None
    trust: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    confidence: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0


class RecallLessons:
    """Lessons of the attempt's skill, best first.

    Args:
        recall: memory; None recalls nothing.
    """

    wire = WireRecall

    def __init__(self, recall: Recall | None) -> None:
        self._recall = recall

    def request(self, asked: WireRecall, attempt: Attempt, index: int, key: int) -> RecallRequest:
        within(attempt, "lessons", asked.k, "k of a recall")
        within(attempt, "prompt_chars", len(asked.query), "the length of a query")
        return RecallRequest(
            skill=attempt.skill,
            query=asked.query,
            k=asked.k,
            key=key,
            budget=asked.budget,
            kinds=asked.kinds or SHOWN,
            words=asked.words,
            vector=asked.vector,
            trust=asked.trust,
            confidence=asked.confidence,
        )

    def answer(self, requests: list[RecallRequest]) -> Sequence[Result]:
        return [self._lessons(request) for request in requests]

    def _lessons(self, request: RecallRequest) -> Given:
        """(prompt, answer, skill, level, success, text, kind) of each lesson."""
        if self._recall is None:
            return Given([])
        lessons = self._recall(request)
        shown = [
            (each.prompt, each.answer, each.skill, each.level, each.success, each.text, each.kind)
            for each in lessons
        ]
        return Given(shown, recalled=tuple(lesson.id for lesson in lessons))


class WireRemember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text for memory, and what it is about."""

    text: Annotated[str, Meta(min_length=1)]
    kind: LessonKind = "procedure"


class Remember:
    """Texts that programs write; whether they are kept is decided at the cycle's end.

    Args:
        on: whether there is a memory; without one a text goes nowhere, and the program is told so.
    """

    wire = WireRemember

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def request(self, asked: WireRemember, attempt: Attempt, index: int, key: int) -> Note:
        within(attempt, "notes", attempt.noted + 1, "the number of an attempt's texts for memory")
        within(attempt, "prompt_chars", len(asked.text), "the length of a text for memory")
        if not asked.text.strip():
            raise Refused("rejected", "remember: an empty text")
        attempt.noted += 1
        return Note(text=asked.text, kind=asked.kind)

    def answer(self, requests: list[Note]) -> Sequence[Result]:
        return [Given(self._on, note=note if self._on else None) for note in requests]
