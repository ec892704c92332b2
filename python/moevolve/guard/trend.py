"""Evidence that a success rate has fallen from one block of cycles to a later one, beyond a margin.

Two blocks of independent outcomes are paired at random: for one pairing, the differences d_i = earlier - later with means
m_i bet against "their mean is at most `margin`" as in `moevolve.gate.capital`, E prod_i (1 + s (d_i - m)) =
prod_i (1 + s (m_i - m)) <= 1, tasks of different levels included. A mean of such capitals over all pairings is an e-value as
well, and it depends on the counts of successes alone: how many pairs are won on both sides is hypergeometric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from moevolve.gate.capital import log_capital
from moevolve.guard.evidence import AlarmBudget, hypergeometric

Block = tuple[int, int]
"""(successes, tries)."""


class Trend(msgspec.Struct, frozen=True):
    """What a look at several rates after one more cycle shows."""

    evidence: float
    """Log of the e-value for "some rate has fallen by more than the margin", over all rates and pairs of blocks."""
    proof: float
    """Evidence from which on it is an alarm."""
    name: str
    """The rate that speaks most for it; empty before there are two blocks."""
    before: Block
    after: Block
    cycles: tuple[int, int, int]
    """Looks, counted from 0: first one of the earlier block, first one of the later, and how many each has."""

    @property
    def alarm(self) -> bool:
        return self.evidence >= self.proof

    @property
    def words(self) -> str:
        """`text/sort 61 of 64 > 20 of 64`."""
        if not self.name:
            return "nothing to compare yet"
        return f"{self.name} {self.before[0]} of {self.before[1]} > {self.after[0]} of {self.after[1]}"


def trend(rates: Mapping[str, Sequence[Block]], margin: float, alpha: float) -> Trend:
    """A look at rates after their newest cycle.

    Blocks of 1, 2, 4, ... cycles that end now are compared with all earlier ones of their length, and the e-values
    are averaged: their mean is an e-value again. Each look has a share of `alpha` (`AlarmBudget`), so that a run in
    which no rate falls raises an alarm, ever, with probability at most `alpha`.

    Args:
        rates: name -> (successes, tries) of every cycle, oldest first.
        margin: a fall that is allowed.
        alpha: error rate of all looks together.
    """
    looks = max(map(len, rates.values()), default=0)
    budget = AlarmBudget(alpha=alpha, checks=max(0, looks - 2))
    found = [
        (log_fall(before, after, margin), name, before, after, cycles)
        for name, blocks in sorted(rates.items())
        for before, after, cycles in pairs(blocks)
    ]
    if not found:
        return Trend(0.0, budget.proof, "", (0, 0), (0, 0), (0, 0, 0))
    top = max(found, key=lambda each: each[0])
    summed = math.fsum(math.exp(each[0] - top[0]) for each in found)
    return Trend(top[0] + math.log(summed / len(found)), budget.proof, *top[1:])


def pairs(blocks: Sequence[Block]) -> Iterator[tuple[Block, Block, tuple[int, int, int]]]:
    """Every earlier block beside the one that ends now, for each length of 1, 2, 4, ..."""
    count, length = len(blocks), 1
    while 2 * length <= count:
        after = _sum(blocks[count - length :])
        for start in range(count - 2 * length, -1, -length):
            yield _sum(blocks[start : start + length]), after, (start, count - length, length)
        length *= 2


def log_fall(before: Block, after: Block, margin: float) -> float:
    """Log of the e-value for "the rate of `after` is more than `margin` below that of `before`"."""
    n = min(before[1], after[1])
    if not n:
        return 0.0
    logs = [
        weight_before + weight_after + weight + log_capital(_counts(n, s, r, both), -margin)
        for s, weight_before in hypergeometric(before[1], before[0], n)
        for r, weight_after in hypergeometric(after[1], after[0], n)
        for both, weight in hypergeometric(n, s, r)
    ]
    top = max(logs)
    return top + math.log(math.fsum(math.exp(each - top) for each in logs))


def _counts(n: int, before: int, after: int, both: int) -> dict[float, int]:
    """Differences of `n` pairs by how often they occur."""
    return {1.0: before - both, -1.0: after - both, 0.0: n - before - after + both}


def _sum(blocks: Sequence[Block]) -> Block:
    return sum(block[0] for block in blocks), sum(block[1] for block in blocks)
