"""Where attempts go: to the cells (skill, level) from which most can be learned."""

from __future__ import annotations

from random import Random

Counts = dict[str, dict[int, tuple[float, float]]]
"""Skill -> level -> (successes, attempts)."""

Cell = tuple[str, int]

DECAY = 0.4
"""What is left of older counts after a cycle: policies change, so old counts say less."""
UNIFORM = 0.25
"""Share of attempts spread evenly, so that no cell is ever forgotten."""


def success(counts: Counts, skill: str, level: int) -> float:
    """Estimated success of a cell: its counts, with a prior of one attempt at the level below's estimate.

    The prior walks up the levels: a cell never tried is judged by its easier neighbour, a little lower.
    """
    estimate = 0.5
    for step in range(1, level + 1):
        wins, tries = counts.get(skill, {}).get(step, (0.0, 0.0))
        prior = estimate if step == 1 else estimate * 0.85
        estimate = (wins + 2.0 * prior) / (tries + 2.0)
    return estimate


def learnability(p: float) -> float:
    """p(1 - p): the variance of the verdict, largest where a policy succeeds half the time."""
    return p * (1 - p)


def amplified(direct: float, program: float) -> float:
    """What distilling a program's answers can teach: it succeeds, and the bare policy does not."""
    return program * (1 - direct)


def allocate(weights: dict[Cell, float], n: int, focus: float, draw: Random) -> list[Cell]:
    """`n` cells: a uniform share, the rest in proportion to `weights`, by systematic sampling.

    Args:
        weights: non-negative weight of every cell.
        n: number of cells to return.
        focus: 0 gives every skill the same share; 1 shares by what is left to learn.
        draw: source of the one offset.
    """
    cells = sorted(weights)
    per_skill: dict[str, float] = {}
    for (skill, _), weight in weights.items():
        per_skill[skill] = per_skill.get(skill, 0.0) + weight
    total = sum(per_skill.values())
    shares = []
    for skill, level in cells:
        inside = weights[skill, level] / per_skill[skill] if per_skill[skill] > 0 else 0.0
        between = (1 - focus) / len(per_skill) + focus * (per_skill[skill] / total if total > 0 else 0.0)
        shares.append(UNIFORM / len(cells) + (1 - UNIFORM) * inside * between)
    # Systematic sampling: one random offset, then equal steps; each cell gets its share rounded up or down.
    step = sum(shares) / n
    at = draw.random() * step
    chosen: list[Cell] = []
    edge = 0.0
    for cell, share in zip(cells, shares, strict=True):
        edge += share
        while at < edge and len(chosen) < n:
            chosen.append(cell)
            at += step
    return chosen


def observe(counts: Counts, seen: list[tuple[str, int, int, int]]) -> None:
    """Decays all counts and adds what a cycle saw: (skill, level, successes, attempts)."""
    for levels in counts.values():
        for level, (wins, tries) in levels.items():
            levels[level] = (wins * DECAY, tries * DECAY)
    for skill, level, wins, tries in seen:
        old = counts.setdefault(skill, {}).get(level, (0.0, 0.0))
        counts[skill][level] = (old[0] + wins, old[1] + tries)
