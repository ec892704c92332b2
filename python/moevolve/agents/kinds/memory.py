"""Requests to memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.protocol.requests import Recall, RecallRequest


class WireRecall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query: at most `k` lessons, and where `budget` is given at most so many characters of them."""

    query: str
    k: Annotated[int, msgspec.Meta(ge=1)] = 4
    budget: Annotated[int, msgspec.Meta(ge=1)] | None = None


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
            attempt=index, skill=attempt.skill, query=asked.query, k=asked.k, budget=asked.budget
        )

    def answer(self, requests: list[RecallRequest]) -> Sequence[Result]:
        return [Given(self._lessons(request)) for request in requests]

    def _lessons(self, request: RecallRequest) -> list[tuple[str, str, str, int, bool]]:
        """(prompt, answer, skill, level, success) of each lesson, as far as the budget goes."""
        lessons = [] if self._recall is None else self._recall(request.skill, request.query, request.k)
        left = request.budget
        given = []
        for lesson in lessons:
            if left is not None:
                left -= len(lesson.prompt) + len(lesson.answer)
                if left < 0:
                    break
            given.append((lesson.prompt, lesson.answer, lesson.skill, lesson.level, lesson.success))
        return given


class WireRemember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text for memory."""

    text: str


class Remember:
    """Texts that programs write: refused, since lessons come from graded attempts alone."""

    wire = WireRemember

    def request(self, asked: WireRemember, attempt: Attempt, index: int, key: int) -> None:
        raise Refused("rejected", "remember: this memory holds graded attempts, and no text of a program's")

    def answer(self, requests: list[None]) -> Sequence[Result]:
        return []
