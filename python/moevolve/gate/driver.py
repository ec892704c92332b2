"""The gate's driver: draws batch after batch of paired scores until the gate has decided.

Where the scores come from is a `PairSource`: rollouts of two variants on fresh tasks, or scores that are known already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from moevolve.gate.betting import GateVerdict, PairedGate
from moevolve.gate.pairing import Pair, Pairs
from moevolve.rollouts.attempts import Counts
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner, Running


class PairSource(Protocol):
    """Paired scores of a candidate and the champion, batch after batch."""

    exhausted: str
    """Why there are no more pairs, in words."""

    def next(self) -> list[Pair] | None:
        """The next batch; None where there are no more."""
        ...

    def close(self) -> None:
        """Drops what was prepared for a batch that is not wanted."""
        ...


def decide(
    gate: PairedGate, source: PairSource, watch: Callable[[GateVerdict], None] = lambda verdict: None
) -> GateVerdict:
    """The gate's verdict, with its decision.

    Args:
        gate: a comparison that has not begun.
        source: of paired scores.
        watch: takes the verdict before every batch.
    """
    try:
        while (verdict := gate.verdict).decision is None:
            watch(verdict)
            pairs = source.next()
            if pairs is None:
                return gate.give_up(source.exhausted)
            gate.update(pairs)
        return verdict
    finally:
        source.close()


class KnownPairs:
    """Scores that are known from the start.

    Args:
        pairs: all of them.
        batch: pairs between two looks.
    """

    def __init__(self, pairs: Sequence[Pair], batch: int) -> None:
        self.exhausted = f"no proof in {len(pairs)} pairs"
        self._pairs = list(pairs)
        self._batch = batch

    def next(self) -> list[Pair] | None:
        taken, self._pairs = self._pairs[: self._batch], self._pairs[self._batch :]
        return taken or None

    def close(self) -> None:
        self._pairs = []


Sides = tuple[RolloutRequest, RolloutRequest]
"""The candidate's rollouts and the champion's, on the same tasks with the same keys."""


class RolloutPairs:
    """Scores of two variants on fresh tasks; the batch after the next is prepared while the policy answers the next.

    Args:
        runner: runs and grades the rollouts.
        sides: gives the requests of a batch by its number; None where there are no more.
        skills: the skills that tasks come from.
        patience: pairs without an answer after which there are no more.
    """

    def __init__(
        self,
        runner: RolloutRunner,
        sides: Callable[[int], Sides | None],
        skills: Sequence[str],
        patience: int,
    ) -> None:
        self.exhausted = "no tasks are left"
        self.counts = Counts()
        """What the comparison took."""
        self._runner = runner
        self._sides = sides
        self._pairs = Pairs(skills)
        self._patience = patience
        self._batch = 0
        self._ahead: Running | None = None

    def next(self) -> list[Pair] | None:
        if self._pairs.unanswered >= self._patience:
            self.exhausted = f"the policy left {self._pairs.unanswered} paired tasks unanswered"
            return None
        running = self._ahead or self._submit()
        self._ahead = None
        if running is None:
            return None
        self._ahead = self._submit()
        candidate, champion = running.results()
        self.counts += candidate.counts + champion.counts
        return self._pairs.take(candidate.attempts, champion.attempts)

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def _submit(self) -> Running | None:
        sides = self._sides(self._batch)
        self._batch += 1
        return None if sides is None else self._runner.submit(sides)
