"""What a run never works on, by column: levels above its own, skills that its configuration leaves out."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from moevolve.config import Config
from moevolve.loop import resolve
from moevolve.records import Column
from moevolve.tasks.suite import Cell, Suite

COLUMNS: tuple[Column, ...] = ("G0", "G2", "G3", "G4")

NOTHING: dict[Column, str] = {
    "G2": "no skill of the run has higher levels",
    "G3": "no skill with these levels was left out of a branch that the run works on",
    "G4": "no branch with these levels was left out",
}
"""Why a column has no tasks."""
WHOLE = "no skill was left out"
GREW = "the skill tree opens levels itself: see the growth column"


class HeldOut(msgspec.Struct, frozen=True):
    """What a run never works on.

    Attributes:
        suite: its skills with these levels alone, split as the run's own.
        cells: column -> the (skill, level) that have a sealed task.
        reasons: column -> why it has none.
    """

    suite: Suite
    cells: dict[Column, list[Cell]]
    reasons: dict[Column, str]


def held_out(config: Config, worked: Suite, tried: Container[str] = ()) -> HeldOut:
    """What a run never works on.

    Args:
        config: the run's.
        worked: its suite.
        tried: leaves that its skill tree tried, which are none of it.
    """
    whole = resolve.whole(config).keyed(bytes.fromhex(worked.secret))
    branches = {path.partition("/")[0] for path in worked.skills}
    low, high = config.suite.levels
    places: dict[Column, list[Cell]] = {"G2": [], "G3": [], "G4": []}
    leaves = []
    for path, leaf in whole.skills.items():
        column: Column
        if path in worked.skills:
            column, begin = "G2", worked[path].levels[1] + 1
            end = begin + config.generalise.levels - 1
            if config.growth.on:
                continue
        elif path in tried:
            continue
        else:
            column = "G3" if path.partition("/")[0] in branches else "G4"
            begin, end = max(low, leaf.levels[0]), high
        end = end if path in whole.endless else min(end, leaf.levels[1])
        if begin <= end:
            leaves.append(msgspec.structs.replace(leaf, levels=(begin, end)))
            places[column] += [(path, level) for level in range(begin, end + 1)]
    suite = whole.of(leaves)
    cells = {column: [cell for cell in of if suite.has("sealed", *cell)] for column, of in places.items()}
    reasons = {column: NOTHING[column] for column, of in cells.items() if not of}
    if whole.skills.keys() <= worked.skills.keys():
        reasons |= {"G3": WHOLE, "G4": WHOLE}
    if config.growth.on:
        reasons["G2"] = GREW
    return HeldOut(suite, cells, reasons)


def spread(suite: Suite, cells: list[Cell], each: int) -> list[Cell]:
    """Every cell `each` times, or as often as it has listed tasks in the sealed split."""
    found: list[Cell] = []
    for path, level in cells:
        tasks = suite[path].listed
        found += [(path, level)] * (each if tasks is None else min(each, tasks.size("sealed", level)))
    return found
