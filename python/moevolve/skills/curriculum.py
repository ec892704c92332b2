"""Where the next attempts go: to the (skill, level) cells from which most can be learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from moevolve.skills.mastery import Mastery
from moevolve.skills.prerequisites import Readiness, always

Cell = tuple[str, int]
"""(skill, level)."""

FLOOR = 0.05
"""Need of a skill that the program has solved."""
REACH = 2
"""How many levels beyond a mastered one an amplified answer may teach."""
UNREADY = 0.25
"""What is left of the weight of a skill none of whose prerequisites succeed."""
UNIFORM = 0.3
"""Most of the attempts that are spread evenly over all cells, so that none is forgotten and surprises are seen."""
SEEN = 6
"""Attempts of every cell that are enough for that."""


def learnability(p: float) -> float:
    """p(1 - p), the variance of the verdict: nothing is learned where success is certain or out of reach."""
    return p * (1 - p)


def by_practice(direct: Mastery, program: Mastery, ready: Readiness = always) -> dict[Cell, float]:
    """Weights for attempts by the bare policy: learnability, times how much the skill still fails through the program, less
    where its prerequisites are not mastered.

    What the program has solved is left to amplified answers; practice goes to what only better weights can reach.
    """
    needed = needs(program)
    return {
        (skill, level): learnability(p) * needed[skill] * _prepared(ready(skill, level))
        for skill in direct.levels
        for level, p in direct.estimates(skill).items()
    }


def needs(program: Mastery) -> dict[str, float]:
    """How much every skill still fails through the program, and `FLOOR` more: how much of practice and training it gets."""
    found = {}
    for skill in program.levels:
        solved = list(program.estimates(skill).values())
        found[skill] = FLOOR + 1 - sum(solved) / len(solved)
    return found


def by_amplification(direct: Mastery, program: Mastery, ready: Readiness = always) -> dict[Cell, float]:
    """Weights for attempts through a program: where it succeeds, the bare policy does not, and nearly could; less where its
    prerequisites are not mastered.

    That is what distilling the program's answers can teach next. A level counts by the bare success `REACH` levels
    below: answers from far beyond the frontier teach nothing but noise, and cost what was known.
    """
    weights = {}
    for skill, (low, _) in program.levels.items():
        bare = direct.estimates(skill)
        for level, p in program.estimates(skill).items():
            near = bare[max(low, level - REACH)]
            wanted = p * (1 - bare[level]) * near + learnability(p)
            weights[skill, level] = wanted * _prepared(ready(skill, level))
    return weights


def _prepared(ready: float) -> float:
    return UNREADY + (1 - UNREADY) * ready


def drawn_by_weight(of: Sequence[Cell], weights: Mapping[Cell, float], n: int, rng: Random) -> list[int]:
    """Places of at most `n` tasks, in order, drawn without replacement by the weights of their cells.

    Efraimidis and Spirakis 2006: those with the least -log(u) / w.

    Args:
        of: each task's cell.
        weights: weight of every cell, not negative; one that is left out has none.
        n: most tasks.
        rng: source of randomness.
    """
    keys = []
    for place, cell in enumerate(of):
        weight = weights.get(cell, 0.0)
        drawn = -math.log(1.0 - rng.random())
        if weight > 0:
            keys.append((drawn / weight, place))
    return sorted(place for _, place in sorted(keys)[:n])


def shares(cells: Mapping[Cell, float], focus: float, even: float = UNIFORM) -> dict[Cell, float]:
    """Share of attempts of every (skill, level); they sum to 1.

    Args:
        cells: weight of every cell, not negative.
        focus: 0 gives every skill the same share, 1 shares by the weight of its cells.
        even: what of the attempts every cell gets the same of.
    """
    weights: dict[str, dict[int, float]] = {}
    for (skill, level), weight in sorted(cells.items()):
        weights.setdefault(skill, {})[level] = weight
    totals = {skill: sum(levels.values()) for skill, levels in weights.items()}
    whole = sum(totals.values())
    result: dict[Cell, float] = {}
    for skill, levels in weights.items():
        between = (1 - focus) / len(weights) + focus * (totals[skill] / whole if whole else 1 / len(weights))
        for level, weight in levels.items():
            within = weight / totals[skill] if totals[skill] else 1 / len(levels)
            result[skill, level] = even / len(cells) + (1 - even) * between * within
    return result


def allocate(cells: Mapping[Cell, float], n: int, focus: float, rng: Random) -> list[Cell]:
    """`n` cells for the next attempts, in the order of skills and levels.

    Systematic sampling (one random offset, then equal steps): every cell gets its share of `n` rounded up
    or down, so that an allocation is as even as its shares are.
    """
    wanted = shares(cells, focus, min(UNIFORM, SEEN * len(cells) / max(1, n)))
    offset = rng.random()
    chosen: list[Cell] = []
    reached = 0.0
    for cell, share in wanted.items():
        reached += share * n
        while len(chosen) < n and len(chosen) + offset < reached:
            chosen.append(cell)
    last = next(reversed(wanted))
    return chosen + [last] * (n - len(chosen))
