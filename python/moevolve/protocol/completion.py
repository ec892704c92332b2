"""Sampled answers."""

from __future__ import annotations

import msgspec


class Completion(msgspec.Struct, frozen=True):
    """One sampled answer. `logprobs` are natural logs under temperature 1, one per token."""

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish: str
    """`stop` when an end token was drawn, `length` at the token limit."""


class Samples(tuple[Completion, ...]):
    """The completions of one prompt; `.text` and `.tokens` are the first one's."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self[0].text

    @property
    def tokens(self) -> list[int]:
        return self[0].tokens
