"""The gate's driver: draws batch after batch of paired scores until the gate has decided.

Where the scores come from is a `PairSource`: rollouts of two variants on fresh tasks, or scores that are known already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from moevolve.gate.betting import GateVerdict, Paired, PairedGate
from moevolve.rollouts.attempts import Attempt, Counts
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner, Running

FLIPPED = 12
"""Most pairs of attempts that are kept for people, of those that the candidate won and of those that it lost."""


class PairSource(Protocol):
    """Paired scores of a candidate and the champion, batch after batch."""

    exhausted: str
    """Why there are no more pairs, in words."""

    def next(self) -> list[Paired] | None:
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

    def __init__(self, pairs: Sequence[Paired], batch: int) -> None:
        self.exhausted = f"no proof in {len(pairs)} pairs"
        self._pairs = list(pairs)
        self._batch = batch

    def next(self) -> list[Paired] | None:
        taken, self._pairs = self._pairs[: self._batch], self._pairs[self._batch :]
        return taken or None

    def close(self) -> None:
        self._pairs = []


class Match(msgspec.Struct, frozen=True):
    """Two rollouts on the same tasks with the same keys."""

    candidate: RolloutRequest
    other: RolloutRequest
    """The champion's, or those of the variant that holds the skills' best levels."""
    best: bool = False
    """Whether it is the latter."""


class RolloutPairs:
    """Scores of two variants on fresh tasks; the batch after the next is prepared while the policy answers the next.

    Args:
        runner: runs and grades the rollouts.
        matches: gives the matches of a batch by its number; None where there are no more.
    """

    def __init__(self, runner: RolloutRunner, matches: Callable[[int], Sequence[Match] | None]) -> None:
        self.exhausted = "no fresh tasks are left"
        self.counts = Counts()
        """What the comparison took."""
        self.flipped: list[tuple[Attempt, Attempt]] = []
        """The first pairs that one side alone got right: the candidate's attempt and the champion's."""
        self._runner = runner
        self._matches = matches
        self._batch = 0
        self._ahead: tuple[Sequence[Match], Running] | None = None

    def next(self) -> list[Paired] | None:
        current = self._ahead or self._submit()
        self._ahead = None
        if current is None:
            return None
        self._ahead = self._submit()
        matches, running = current
        rolled = running.results()
        self.counts = sum((rollouts.counts for rollouts in rolled), self.counts)
        for match, ours, theirs in zip(matches, rolled[::2], rolled[1::2], strict=True):
            if not match.best:
                self._note(ours.attempts, theirs.attempts)
        return [
            pair
            for match, ours, theirs in zip(matches, rolled[::2], rolled[1::2], strict=True)
            for pair in paired(ours.attempts, theirs.attempts, best=match.best)
        ]

    def _note(self, candidate: Sequence[Attempt], champion: Sequence[Attempt]) -> None:
        """Keeps pairs that went two ways, as many as there is room for."""
        for ours, theirs in zip(candidate, champion, strict=True):
            won = ours.verdict.success
            if won != theirs.verdict.success:
                kept = sum(each.verdict.success == won for each, _ in self.flipped)
                if kept < FLIPPED:
                    self.flipped.append((ours, theirs))

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead[1].cancel()
            self._ahead = None

    def _submit(self) -> tuple[Sequence[Match], Running] | None:
        matches = self._matches(self._batch)
        self._batch += 1
        if matches is None:
            return None
        requests = [request for match in matches for request in (match.candidate, match.other)]
        return matches, self._runner.submit(requests)


def paired(candidate: Sequence[Attempt], other: Sequence[Attempt], *, best: bool = False) -> list[Paired]:
    """The attempts of two variants, task by task.

    An attempt that the policy left unanswered has no score; what that means for its pair the gate decides.
    """
    return [
        Paired(
            ours.task.skill,
            ours.verdict.score if ours.answered else None,
            theirs.verdict.score if theirs.answered else None,
            best,
        )
        for ours, theirs in zip(candidate, other, strict=True)
    ]
