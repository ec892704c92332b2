"""When a program with a better score becomes the champion.

A deterministic evaluator gives a score and not a success rate: a program that has the same score twice is worth that
score, and a higher one is better. Both sides are looked at twice. As soon as two evaluations of any program of the run give
two scores, the score that a program was found by is the luckiest of many, in this run for ever; then the first fresh ones of
both sides decide by an exact permutation test, whose error the run's budget bounds (`gate.spending`). A decision's level,
which is known before it, says how many: the least p-value of a test of n scores against n is 1 / C(2n, n).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import combinations

from moevolve.journal.averages import SCALE, mean
from moevolve.loop.optimise.archive import Program, ProgramArchive
from moevolve.records import Improved

TRIES = 3
"""Further evaluations of a program that may fail in a row: a candidate is given up then, a champion taken as it is."""
FEW = 3
"""Fresh scores after which a program whose mean is no better than the champion's is given up."""


MOST = 12
"""Fresh scores of each side that a test takes at most."""


def least_p(n: int) -> float:
    """The least p-value of a test of n scores against n."""
    return 1 / math.comb(2 * n, n)


def size(level: float, fresh: int) -> int:
    """Scores of each side that a test at this level takes: `fresh`, and so many more that half of the level can be met."""
    return next((n for n in range(fresh, MOST) if least_p(n) <= level / 2), MOST)


def exhausted(level: float) -> bool:
    """Whether no test can meet a level any more."""
    return least_p(MOST) > level


def permutation_p(candidate: Sequence[float], champion: Sequence[float]) -> float:
    """One-sided p-value: the share of all ways to deal the scores to the two sides that favour the candidate as much."""
    pooled = [*candidate, *champion]
    if not math.isfinite(sum(map(abs, pooled))):
        candidate, pooled = [each * SCALE for each in candidate], [each * SCALE for each in pooled]
    reached = sum(candidate) - 1e-12 * sum(map(abs, pooled))
    half = len(pooled) // 2
    found = 0
    # A deal is one of either half's scores: their sums are far fewer than the deals.
    for taken in range(max(0, len(candidate) - (len(pooled) - half)), min(half, len(candidate)) + 1):
        rest = sorted(map(sum, combinations(pooled[half:], len(candidate) - taken)))
        sums = map(sum, combinations(pooled[:half], taken))
        found += sum(len(rest) - bisect_left(rest, reached - each) for each in sums)
    return found / math.comb(len(pooled), len(candidate))


def wanted(archive: ProgramArchive, fresh: int, pending: Mapping[str, int]) -> str | None:
    """The program that has to be evaluated once more before a decision; None where no decision waits for more.

    Args:
        archive: as it is now.
        fresh: fresh scores of each side that a test takes at least.
        pending: further evaluations that were begun, by program.
    """
    candidate = challenger(archive)
    if candidate is None:
        return None
    program, best = archive.programs[candidate], archive.best()
    if unseen := [each.id for each in (program, best) if _unseen(each)]:
        return next((id for id in unseen if not pending.get(id)), None)
    if not archive.noisy or _hopeless(program, best):
        return None
    fresh = size(archive.spending.level, fresh)
    if len(program.fresh) + pending.get(candidate, 0) < fresh:
        return candidate
    begun = len(best.fresh) + pending.get(best.id, 0)
    return best.id if begun < fresh and best.failures < TRIES else None


def ripe(archive: ProgramArchive, fresh: int) -> bool:
    """Whether the decision that waits has all the evaluations that it takes."""
    candidate = challenger(archive)
    if candidate is None:
        return False
    program, best = archive.programs[candidate], archive.best()
    if _unseen(program) or _unseen(best):
        return False
    if not archive.noisy or _hopeless(program, best):
        return True
    fresh = size(archive.spending.level, fresh)
    return len(program.fresh) >= fresh and (len(best.fresh) >= fresh or best.failures >= TRIES)


def _unseen(program: Program) -> bool:
    """Whether a program with a score was evaluated only once, and may be once more."""
    return program.first is not None and not program.fresh and program.failures < TRIES


def _hopeless(program: Program, best: Program) -> bool:
    """Whether a few fresh scores already lie below the champion's."""
    return len(program.fresh) >= FEW and best.score is not None and mean(program.fresh) <= best.score


def challenger(archive: ProgramArchive) -> str | None:
    """The best program that looks better than the champion and was not decided about; None once no test can promote one."""
    if archive.noisy and exhausted(archive.spending.level):
        return None
    bar = archive.value(archive.champion) if archive.champion is not None else float("-inf")
    found: str | None = None
    for id in archive.members:
        program = archive.programs[id]
        first = program.first
        if first is None or first <= bar or program.rechecked or program.failures >= TRIES:
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
    noisy = archive.noisy
    fresh = size(archive.spending.level, fresh)
    # A policy may look at a program more often, and at the champion without end.
    mine = program.fresh[:fresh]
    its = best.fresh[:fresh] or ([] if best.first is None else [best.first])
    p = alpha = None
    if not its:
        promoted = True
    elif noisy:
        p, alpha = permutation_p(mine, its), archive.spending.level
        complete = len(mine) == fresh and (len(its) == fresh or best.failures >= TRIES)
        promoted = complete and p <= alpha
    else:
        promoted = mean(mine) > mean(its)
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
