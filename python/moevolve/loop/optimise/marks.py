"""The parts of a program that may be changed: between lines with EVOLVE-BLOCK-START and EVOLVE-BLOCK-END."""

from __future__ import annotations

START, END = "EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"


def blocks(text: str) -> list[tuple[int, int]]:
    """(first, last + 1) lines of the blocks, counted from 0, without their marks; the whole program where there is none."""
    found: list[tuple[int, int]] = []
    begun: int | None = None
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if START in line:
            begun = number + 1
        elif END in line and begun is not None:
            found.append((begun, number))
            begun = None
    return found or [(0, len(lines))]


def outside(text: str) -> list[str]:
    """The lines that may not be changed, marks included; every line where there are no marks."""
    lines = text.split("\n")
    kept: list[str] = []
    inside = False
    for line in lines:
        if END in line:
            inside = False
        if not inside:
            kept.append(line)
        if START in line:
            inside = True
    return kept
