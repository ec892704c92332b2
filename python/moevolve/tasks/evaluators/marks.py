"""The parts of a program that may be changed: between lines that hold EVOLVE-BLOCK-START and EVOLVE-BLOCK-END alone.

A mark's line is a comment, or nothing but the mark, as texts that know no comments have it.
A line that mentions a mark among other words is none. A block that is not closed is none, nor is a mark inside a block.
"""

from __future__ import annotations

import re

_MARK = re.compile(
    r"\s*(?:#|//|/\*|--|%|;|!|<!--|\(\*|\{-)?[-#/*%;!=~\s]*EVOLVE-BLOCK-(START|END)[-#/*%;!=~:.>)}\s]*"
)


def marked(text: str) -> list[tuple[int, int]]:
    """(first, last + 1) lines of the blocks, counted from 0, without their marks."""
    found: list[tuple[int, int]] = []
    begun: int | None = None
    for number, line in enumerate(text.split("\n")):
        mark = _MARK.fullmatch(line) if "EVOLVE-BLOCK-" in line else None
        if mark is None:
            continue
        if mark[1] == "START" and begun is None:
            begun = number + 1
        elif mark[1] == "END" and begun is not None:
            found.append((begun, number))
            begun = None
    return found


def blocks(text: str) -> list[tuple[int, int]]:
    """The blocks; the whole program where there is none."""
    return marked(text) or [(0, text.count("\n") + 1)]


def outside(text: str) -> list[str]:
    """The lines that may not be changed, marks included; every line where there are no marks."""
    free = {number for first, last in marked(text) for number in range(first, last)}
    return [line for number, line in enumerate(text.split("\n")) if number not in free]
