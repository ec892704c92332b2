"""Texts while a plan is evaluated: what they say, which completions they are made of, and whether the task is in them."""

from __future__ import annotations

import math

import msgspec

from moevolve.protocol.requests import Piece

SHORTEST_MEAN = 1.5
"""Characters that the completions of a joined answer must have on average: one-letter completions could spell anything."""


class Value(msgspec.Struct, frozen=True):
    """A text under evaluation."""

    text: str
    pieces: tuple[Piece, ...] = ()
    task: bool = False
    """Whether a text of the task, or an answer to one, stands in it."""


def concat(values: list[Value]) -> Value:
    """Texts one after another, their pieces at their new indices."""
    if len(values) == 1:
        return values[0]
    pieces: list[Piece] = []
    length = 0
    for value in values:
        pieces += [Piece(length + piece.start, piece.text, piece.prompt) for piece in value.pieces]
        length += len(value.text)
    return Value("".join(value.text for value in values), tuple(pieces), any(value.task for value in values))


def part(value: Value, text: str) -> Value:
    """A part of a text: it counts as many pieces as the whole, and none of them is whole any more."""
    return Value(text, tuple(Piece(0, "", None) for _ in value.pieces), value.task)


def answered(text: str, prompt: Value) -> Value:
    """A completion as a text of one piece."""
    return Value(text, (Piece(0, text, prompt.text if prompt.task else None),), prompt.task)


def spelt(value: Value) -> bool:
    """Whether an answer is put together from pieces that are too short."""
    return len(value.pieces) > max(1, math.ceil(len(value.text) / SHORTEST_MEAN))
