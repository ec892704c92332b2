"""What tells two texts apart, as rows: one below the other, or side by side where there is room for both."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.kinds import Tone

CONTEXT = 3
"""Equal lines around a change."""
TAB = 4
NUMBER = 7
"""Cells of a mark, a line's number and the space behind it."""
LEAST = 56
"""Cells below which two texts do not stand side by side."""
WIDE = 110
"""Cells from which they do by themselves."""


class Pair(NamedTuple):
    """A line of both texts: numbers and words, None where a text has no such line."""

    before: tuple[int, str] | None
    after: tuple[int, str] | None

    @property
    def changed(self) -> bool:
        """Whether the texts differ here."""
        return self.before is None or self.after is None or self.before[1] != self.after[1]


class Hunk(NamedTuple):
    """Neighbouring changes with the lines around them."""

    head: str
    pairs: list[Pair]


def hunks(before: str, after: str) -> list[Hunk]:
    """The changes from one text to another. Lines that replace lines stand in the same pairs, as far as they go."""
    old, new = before.split("\n"), after.split("\n")
    found = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(CONTEXT):
        first, last = group[0], group[-1]
        head = f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        pairs = []
        for _, i, i_end, j, j_end in group:
            for step in range(max(i_end - i, j_end - j)):
                left, right = i + step, j + step
                pairs.append(
                    Pair(
                        (left + 1, old[left]) if left < i_end else None,
                        (right + 1, new[right]) if right < j_end else None,
                    )
                )
        found.append(Hunk(head, pairs))
    return found


def counts(found: list[Hunk]) -> tuple[int, int]:
    """How many lines are new, and how many are gone."""
    changed = [pair for hunk in found for pair in hunk.pairs if pair.changed]
    return sum(pair.after is not None for pair in changed), sum(pair.before is not None for pair in changed)


def below(pairs: list[Pair], width: int) -> Iterator[Line]:
    """The lines one below the other: of neighbouring changes first what is gone, then what is new."""
    gone: list[tuple[int, str]] = []
    new: list[tuple[int, str]] = []
    for pair in [*pairs, None]:
        if pair is not None and pair.changed:
            gone += [pair.before] if pair.before else []
            new += [pair.after] if pair.after else []
            continue
        for mark, tone, each in (("-", "bad", gone), ("+", "good", new)):
            for number, words in each:
                yield from _wrapped(mark, number, words, width, tone)  # type: ignore[arg-type]
        gone, new = [], []
        if pair is not None and pair.after is not None:
            yield from _wrapped(" ", *pair.after, width, "plain")


def side_by_side(pairs: list[Pair], width: int) -> Iterator[Line]:
    """The lines of both texts beside each other."""
    half = (width - 3) // 2
    for pair in pairs:
        left = _half(pair.before, half, "-" if pair.changed else " ", "bad" if pair.changed else "plain")
        right = _half(pair.after, half, "+" if pair.changed else " ", "good" if pair.changed else "plain")
        for index in range(max(len(left), len(right))):
            first = left[index] if index < len(left) else []
            second = right[index] if index < len(right) else []
            yield [*fit(first, half), (" │ ", "faint"), *second]


def _half(each: tuple[int, str] | None, width: int, mark: str, tone: Tone) -> list[Line]:
    return [] if each is None else list(_wrapped(mark, *each, width, tone))


def _wrapped(mark: str, number: int, words: str, width: int, tone: Tone) -> Iterator[Line]:
    """A line as many rows as it takes; the first one has mark and number."""
    shown = words.expandtabs(TAB)
    room = max(8, width - NUMBER - 1)
    pieces = chop_cells(shown, room) if cell_len(shown) > room else [shown]
    for index, piece in enumerate(pieces):
        lead = f"{mark} {number:>4}  " if index == 0 else f"{mark}       "
        yield [(lead, tone), (piece, tone)]


def numbered(number: int, words: str, width: int) -> Iterator[Line]:
    """A line of a text with its number, as many rows as it takes."""
    return _wrapped(" ", number, words, width, "plain")


def _range(start: int, stop: int) -> str:
    """A hunk's lines as unified diffs write them."""
    length = stop - start
    if length == 1:
        return f"{start + 1}"
    return f"{start + 1 if length else start},{length}"
