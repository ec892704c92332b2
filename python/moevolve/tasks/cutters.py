"""Cutters: ways to take a text apart that a suite may grant to plans, and the least size of their parts.

What a cutter computes is taken off the policy's work, so smaller parts than the least would leave it none.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Cutter(msgspec.Struct, frozen=True):
    """A way to take a text apart.

    Attributes:
        cut: (text, size) -> parts of about that many characters, in order; never empty ones for a text that is not.
        least: the smallest size that a plan may ask for.
    """

    cut: Callable[[str, int], list[str]]
    least: int


def even(text: str, size: int) -> list[str]:
    """Parts of at most `size` characters, as equal as they can be."""
    count = max(1, -(-len(text) // size))
    edges = [round(len(text) * index / count) for index in range(count + 1)]
    return [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def change(text: str, size: int) -> list[str]:
    """Like even parts, but a run of equal characters is never cut in two."""
    parts = [""]
    for part in even(text, size):
        while part and parts[-1] and part[0] == parts[-1][-1]:
            parts[-1] += part[0]
            part = part[1:]
        if part:
            parts.append(part)
    return parts[1:] or [""]


def by_range(text: str, size: int) -> list[str]:
    """One part for each range of characters, lower ranges first; the order within a part stays."""
    share = len(text) / max(1, -(-len(text) // size))
    groups, held = [""], 0
    for letter in sorted(set(text)):
        count = text.count(letter)
        if held and held + count > share + 1:
            groups.append("")
            held = 0
        groups[-1] += letter
        held += count
    return ["".join(letter for letter in text if letter in group) for group in groups]


GENERAL: dict[str, Cutter] = {
    "even": Cutter(even, 2),
    "change": Cutter(change, 3),
    "range": Cutter(by_range, 3),
}
"""Cutters that know nothing of a suite."""
