"""What crosses the joint between a program, the host that runs it, and the policy that answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moevolve.records import Lesson, Struct


class PublicTask(Struct, frozen=True):
    """What a program sees of a task. The answer and the seed stay outside."""

    prompt: str
    skill: str


class GenerateRequest(Struct, frozen=True):
    """One prompt of a round, for the policy to answer with `n` texts.

    `key` depends on the attempt's key and the request's index within the attempt alone, so an answer does not
    depend on what else is in the round.
    """

    task: int
    prompt: str
    n: int
    temperature: float
    top_p: float
    max_tokens: int
    key: int


POLICY = "policy"
"""Failure of an attempt that the policy left without an answer: it says nothing about who attempted."""


class Unanswered(Struct, frozen=True):
    """Stands in place of a request's texts where the policy gave none."""

    failure: str
    """`policy`, or `rejected` where the request itself was refused: that is the attempt's own doing."""
    detail: str


Reply = list[str] | Unanswered


class Outcome(Struct, frozen=True):
    """What became of one attempt."""

    answer: str | None
    failure: str | None
    """None, or `error` (it raised), `malformed` (no usable answer or message), `budget`, `timeout`, `crash`
    (its process died), `provenance` (the policy did not give this answer), `policy` (the policy did not answer),
    `rejected` (it refused the request)."""
    detail: str
    tokens: int
    """Characters generated for the attempt, with one more per completion for its end."""
    requests: int
    completions: list[str]
    """Every text the attempt received, in the order of its requests."""


Answer = Callable[[list[GenerateRequest]], Sequence[Reply]]
"""The policy: `n` texts per request, or why there are none, in the order of the requests."""

Recall = Callable[[str, str, int], Sequence[Lesson]]
"""Memory: the best `k` lessons of (skill, query)."""
