"""Finite data: a task counts once, a decision spends its tasks, and what so many tasks can show is told beforehand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from statistics import NormalDist

from moevolve.errors import UsageError
from moevolve.gate.capital import log_capital
from moevolve.randomness import rng
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task

CHURN = 0.075
"""Share of tasks that one of two equal variants loses to the other, about as two samples of one model do."""
MANY = 8192
"""Tasks beyond which what they show falls with the root of their number."""
POOL_DRAWS = 128
"""Draws from the gate's split that tell a skill with few tasks from one with many."""


class SpentTasks:
    """The ledger of gate tasks: no task is compared on twice.

    A task counts once within a decision, whatever the skill. The tasks of a finite skill are spent by the decision for
    good: what chose today's champion may not judge the next candidate. Generators with no end of tasks need no such
    memory.

    Args:
        finite: skills whose tasks are few; see `pools`.
        spent: what `table` gave, to go on with an earlier ledger.
    """

    def __init__(self, finite: Collection[str] = (), spent: Iterable[int] = ()) -> None:
        self._finite = frozenset(finite)
        self._spent = set(spent)
        self._now: set[int] = set()

    def take(self, tasks: Sequence[Task]) -> list[int]:
        """Indices of the tasks that were not used before, in order; they are used from now on."""
        fresh = []
        for index, task in enumerate(tasks):
            digest = int.from_bytes(hashlib.blake2b(task.identity.encode(), digest_size=8).digest(), "little")
            if digest in self._spent or digest in self._now:
                continue
            (self._spent if task.skill in self._finite else self._now).add(digest)
            fresh.append(index)
        return fresh

    def close(self) -> None:
        """Ends a decision."""
        self._now.clear()

    def table(self) -> list[int]:
        """Digests of what is spent for good, in order: part of the snapshot."""
        return sorted(self._spent)


def pools(suite: Suite, draws: int = POOL_DRAWS) -> dict[str, int]:
    """Skill -> distinct tasks of its gate split, for the skills that have few: those whose tasks are listed, and generators
    that made at most half as many as were drawn.

    Raises:
        UsageError: a level without a task in the gate's split.
    """
    few = {}
    for path, leaf in sorted(suite.skills.items()):
        if leaf.listed is not None:
            few[path] = sum(
                leaf.listed.size("gate", level) for level in range(leaf.levels[0], leaf.levels[1] + 1)
            )
            continue
        draw = rng("pool", path)
        prompts = {
            suite.draw("gate", path, draw.randint(*leaf.levels), "pool", index).prompt
            for index in range(draws)
        }
        if len(prompts) <= draws // 2:
            few[path] = len(prompts)
    return few


def detectable(n: int, alpha: float, power: float = 0.8, churn: float = 0.0) -> float | None:
    """The smallest gain that `n` tasks show at error rate `alpha` with probability `power`; None if no gain does.

    Args:
        n: tasks, each counted once, all looked at in the end.
        churn: share of tasks that the candidate loses; its wins come on top. 0 is the kindest case, so the result is then
            a bound: `n` tasks cannot show less.

    Raises:
        UsageError: a parameter out of its range.
    """
    if n < 1 or not 0 < alpha < 1 or not 0 < power < 1 or not 0 <= churn < 0.5:
        raise UsageError("detectable needs n >= 1, 0 < alpha < 1, 0 < power < 1 and 0 <= churn < 0.5")
    needed = _wins_needed(n, math.log(1 / alpha), churn)
    low, high = 0.0, 1.0 - 2 * churn
    if _power(n, churn, high + churn, needed) < power:
        return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _power(n, churn, middle + churn, needed) < power else (low, middle)
    return high


def reach(n: int, alpha: float) -> str:
    """What a decision with up to `n` paired tasks shows at error rate `alpha`, in words, told before a run begins.

    Raises:
        UsageError: a parameter out of its range.
    """
    least = detectable(min(n, MANY), alpha, churn=CHURN)
    if least is not None and n > MANY:
        least *= math.sqrt(MANY / n)
    shown = "no gain at all" if least is None else f"a gain of {least:+.3f} in 8 of 10 tries"
    return f"The gate compares up to {n:,} paired tasks a decision: enough to show {shown}, less where tasks run out."


def _wins_needed(n: int, proof: float, churn: float) -> dict[int, int]:
    """Losses -> wins among `n` tasks that prove a gain, for every plausible number of losses; n + 1 where none do."""
    reach = 1 + math.ceil(n * churn + 5 * math.sqrt(n * churn * (1 - churn)))
    needed = {}
    for losses in range(min(n, reach if churn else 0) + 1):
        low, high = -1, n - losses + 1
        while high - low > 1:
            wins = (low + high) // 2
            counts = {1.0: wins, -1.0: losses, 0.0: n - wins - losses}
            low, high = (wins, high) if log_capital(counts) < proof else (low, wins)
        needed[losses] = high
    return needed


def _power(n: int, loss: float, win: float, needed: dict[int, int]) -> float:
    """Probability of enough wins for the losses that come, both at these rates."""
    total = 0.0
    for losses, wins in needed.items():
        rest = n - losses
        total += _near(n, loss, losses) * _tail(rest, win / (1 - loss), wins)
    return total


def _near(n: int, p: float, k: int) -> float:
    """Probability of `k` of `n`, through logarithms."""
    if p <= 0:
        return float(k == 0)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def _tail(n: int, p: float, least: int) -> float:
    """Probability of `least` or more of `n`: exact where few, normal with a correction for continuity where many."""
    if least <= 0:
        return 1.0
    if least > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    if n <= 500:
        return min(1.0, math.fsum(_near(n, p, k) for k in range(least, n + 1)))
    return 1 - NormalDist(n * p, math.sqrt(n * p * (1 - p))).cdf(least - 0.5)
