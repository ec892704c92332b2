"""A rubric that grows: what a good edit heeds, learnt from attempts that failed, which every later prompt shows.

It is a file of the program, so that it is part of a way of improving: it is tried by what is written with it, and a user may
edit it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from moevolve.journal.text import line
from moevolve.proposers.answers import Unusable

MOST = 24
"""Criteria; the oldest leave first."""
ADDED = 3
"""Criteria that one answer adds, at most."""
LONGEST = 240
"""Characters of one."""

_POINT = re.compile(r"^[ \t]*[-*][ \t]+(\S.*)$", re.M)
_WORD = re.compile(r"\w+")


def criteria(text: str) -> list[str]:
    """The criteria of a rubric, or of an answer: its bullet points."""
    return [line(point.strip())[:LONGEST] for point in _POINT.findall(text)]


def grown(rubric: str, answer: str) -> str:
    """The rubric with what an answer adds to it; a criterion that says the same words again adds nothing.

    Raises:
        Unusable: the answer adds none.
    """
    there = criteria(rubric)
    known = {_words(each) for each in there}
    new: list[str] = []
    for each in criteria(answer):
        if _words(each) and _words(each) not in known and len(new) < ADDED:
            known.add(_words(each))
            new.append(each)
    if not new:
        raise Unusable("no criterion, one a line after a dash, that the rubric lacks")
    return written([*there, *new][-MOST:])


def written(points: Sequence[str]) -> str:
    """Criteria as a file."""
    return "".join(f"- {point}\n" for point in points)


def _words(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(_WORD.findall(text.casefold()))))
