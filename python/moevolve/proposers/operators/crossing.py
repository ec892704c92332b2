"""Crossover: a program takes lines, or whole files, of another one.

Two programs of an archive share ancestors, so what differs between them are the edits of each: taking some of the other's
puts edits together that were made apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from random import Random

from moevolve.proposers.operators.operator import Change, Inapplicable, lines_of, parsed

WHOLE = 0.3
"""Share of files that are taken whole."""


def crossover(files: Mapping[str, str], other: Mapping[str, str], rng: Random) -> list[Change]:
    """Edits that bring some of another program's files, or some blocks of their lines, into this one.

    Args:
        files: those of the program that may be edited.
        other: the other program's files that may stand in this one.
        rng: source of randomness.

    Raises:
        Inapplicable: nothing can be taken that leaves Python Python, or all that differs would be taken.
    """
    differing = sorted(path for path, text in other.items() if files.get(path) != text)
    if not differing:
        raise Inapplicable("the other program has nothing that this one lacks")
    taken = [path for path in differing if rng.random() < 0.5] or [rng.choice(differing)]
    changes = []
    for path in taken:
        mine = files.get(path)
        if mine is None or rng.random() < WHOLE:
            changes.append(Change(path, other[path], f"{path} as another program has it"))
            continue
        text, count, of = _mixed(mine, other[path], rng)
        if text == mine or (path.endswith(".py") and parsed(text) is None):
            continue
        changes.append(Change(path, text, f"{path}: {count} of {of} blocks of another program"))
    if not changes:
        raise Inapplicable("the pieces do not fit together")
    if len(changes) == len(differing) and all(change.text == other[change.path] for change in changes):
        raise Inapplicable("the other program itself is no crossover")
    return changes


def _mixed(mine: str, other: str, rng: Random) -> tuple[str, int, int]:
    """A text with some of the blocks of lines in which another one differs, how many, and of how many."""
    before, after = lines_of(mine), lines_of(other)
    steps = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    blocks = [index for index, step in enumerate(steps) if step[0] != "equal"]
    chosen = {index for index in blocks if rng.random() < 0.5} or {rng.choice(blocks)}
    lines: list[str] = []
    for index, (_, start, end, first, last) in enumerate(steps):
        lines += after[first:last] if index in chosen else before[start:end]
    return "".join(lines), len(chosen), len(blocks)
