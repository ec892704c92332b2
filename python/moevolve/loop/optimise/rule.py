"""When a program with a better score becomes the champion.

A deterministic evaluator gives a score and not a success rate: a program that has the same score twice is worth that
score, and a higher one is better. Where scores differ, the score that a program was found by is the luckiest of many; then
fresh ones of both sides decide by an exact permutation test, whose error the run's budget bounds (`gate.spending`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

from moevolve.loop.optimise.archive import Program, ProgramArchive
from moevolve.records import Improved

FEW = 3
"""Fresh scores after which a program whose mean is no better than the champion's is given up."""


def permutation_p(candidate: Sequence[float], champion: Sequence[float]) -> float:
    """One-sided p-value: the share of all ways to deal the scores to the two sides that favour the candidate as much."""
    pooled = [*candidate, *champion]
    reached = sum(candidate) - 1e-12 * sum(map(abs, pooled))
    found = total = 0
    for chosen in combinations(pooled, len(candidate)):
        found += sum(chosen) >= reached
        total += 1
    return found / total


def wanted(archive: ProgramArchive, fresh: int, pending: Mapping[str, int]) -> str | None:
    """The program that has to be evaluated once more before a decision; None where no decision waits for more.

    Args:
        archive: as it is now.
        fresh: fresh scores of each side that a test takes.
        pending: further evaluations that were begun, by program.
    """
    candidate = challenger(archive)
    if candidate is None:
        return None
    program, best = archive.programs[candidate], archive.best()
    if not program.fresh:
        return None if pending.get(candidate) else candidate
    if not _differ(program, best) or _hopeless(program, best):
        return None
    if len(program.fresh) + pending.get(candidate, 0) < fresh:
        return candidate
    begun = len(best.fresh) + pending.get(best.id, 0)
    return best.id if begun < fresh and best.failure is None else None


def ripe(archive: ProgramArchive, fresh: int) -> bool:
    """Whether the decision that waits has all the evaluations that it takes."""
    candidate = challenger(archive)
    if candidate is None or not archive.programs[candidate].fresh:
        return False
    program, best = archive.programs[candidate], archive.best()
    if not _differ(program, best) or _hopeless(program, best):
        return True
    return len(program.fresh) >= fresh and (len(best.fresh) >= fresh or best.failure is not None)


def _differ(program: Program, best: Program) -> bool:
    return program.noisy or best.noisy


def _hopeless(program: Program, best: Program) -> bool:
    """Whether a few fresh scores already lie below the champion's."""
    return len(program.fresh) >= FEW and best.score is not None and fmean(program.fresh) <= best.score


def challenger(archive: ProgramArchive) -> str | None:
    """The best program that looks better than the champion and was not decided about."""
    bar = archive.value(archive.champion) if archive.champion is not None else float("-inf")
    found: str | None = None
    for id in archive.members:
        program = archive.programs[id]
        first = program.first
        if first is None or first <= bar or program.rechecked or program.failure is not None:
            continue
        if id != archive.champion:
            found, bar = id, first
    return found


def decision(archive: ProgramArchive, fresh: int) -> Improved | None:
    """The decision that is ripe; None where none waits, or evaluations are missing."""
    candidate = challenger(archive)
    if candidate is None or not ripe(archive, fresh):
        return None
    program, best = archive.programs[candidate], archive.best()
    noisy = _differ(program, best)
    mine, its = list(program.fresh), list(best.fresh) or ([] if best.first is None else [best.first])
    p = alpha = None
    if not its:
        promoted = True
    elif noisy:
        p, alpha = permutation_p(mine, its), archive.spending.level
        promoted = len(mine) >= fresh and p <= alpha
    else:
        promoted = fmean(mine) > fmean(its)
    return Improved(
        evaluation=archive.applied - 1,
        candidate=candidate,
        champion=best.id,
        decision="promote" if promoted else "archive",
        rule="permutation" if noisy else "equal",
        candidate_scores=mine,
        champion_scores=its,
        p=p,
        alpha=alpha,
    )
