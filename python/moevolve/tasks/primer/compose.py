"""The primer's compose branch: two operations of the text branch, in turn, under a verb of its own."""

from __future__ import annotations

from moevolve.tasks.primer.text import caesar, dedupe, reverse, runs, sort, text_skill


def _sort_reverse(text: str) -> str:
    return reverse(sort(text))


def _caesar_reverse(text: str) -> str:
    return reverse(caesar(text))


def _dedupe_reverse(text: str) -> str:
    return reverse(dedupe(text))


COMPOSE = (
    text_skill("compose/sort_reverse", "srv", "sort the letters, then reverse them", _sort_reverse),
    text_skill(
        "compose/caesar_reverse",
        "crv",
        "shift every letter by one, then reverse",
        _caesar_reverse,
    ),
    text_skill(
        "compose/dedupe_reverse",
        "drv",
        "collapse runs, then reverse",
        _dedupe_reverse,
        runs,
    ),
)
