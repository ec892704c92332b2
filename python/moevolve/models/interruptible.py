"""Work of a model in parts: a generator that yields where others may have the model, and returns what comes of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Parts = Generator[None, None, T]


def advanced(work: Parts[T]) -> tuple[T] | None:
    """Does the next part: None while there are more, else what came of all of them."""
    try:
        next(work)
    except StopIteration as end:
        return (end.value,)
    return None


def whole(work: Parts[T]) -> T:
    """Does all parts, one after another."""
    while (done := advanced(work)) is None:
        pass
    return done[0]
