"""Where the next attempts go: to the (skill, level) cells from which most can be learned."""

from __future__ import annotations

from random import Random

from moevolve.skills.mastery import Mastery

UNIFORM = 0.3
"""Share of attempts spread evenly over all cells, so that none is forgotten and surprises are seen."""


def learnability(p: float) -> float:
    """p(1 - p), the variance of the verdict: nothing is learned where success is certain or out of reach."""
    return p * (1 - p)


def shares(mastery: Mastery, focus: float) -> dict[tuple[str, int], float]:
    """Share of attempts of every (skill, level); they sum to 1.

    Args:
        mastery: what is known so far.
        focus: 0 gives every skill the same share, 1 shares by what is left to learn of each.
    """
    weights = {
        skill: {level: learnability(p) for level, p in mastery.estimates(skill).items()}
        for skill in mastery.levels
    }
    totals = {skill: sum(levels.values()) for skill, levels in weights.items()}
    whole = sum(totals.values())
    cells = sum(len(levels) for levels in weights.values())
    result: dict[tuple[str, int], float] = {}
    for skill, levels in weights.items():
        between = (1 - focus) / len(weights) + focus * (totals[skill] / whole if whole else 1 / len(weights))
        for level, weight in levels.items():
            within = weight / totals[skill] if totals[skill] else 1 / len(levels)
            result[skill, level] = UNIFORM / cells + (1 - UNIFORM) * between * within
    return result


def allocate(mastery: Mastery, n: int, focus: float, rng: Random) -> list[tuple[str, int]]:
    """`n` cells for the next attempts, in the order of skills and levels.

    Systematic sampling (one random offset, then equal steps): every cell gets its share of `n` rounded up
    or down, so that an allocation is as even as its shares are.
    """
    wanted = shares(mastery, focus)
    offset = rng.random()
    chosen: list[tuple[str, int]] = []
    reached = 0.0
    for cell, share in wanted.items():
        reached += share * n
        while len(chosen) < n and len(chosen) + offset < reached:
            chosen.append(cell)
    last = next(reversed(wanted))
    return chosen + [last] * (n - len(chosen))
