"""What attempts recalled, stage by stage, on its way to the journal."""

from __future__ import annotations

from itertools import chain

from moevolve.records import Recalled, Shown
from moevolve.rollouts.attempts import Attempt, Rollouts
from moevolve.rollouts.runner import RolloutRequest

ROWS = 2048
"""Attempts of one stage and variant that are on record one by one."""


class RecallLog:
    """Recalls since the last snapshot, by stage and variant."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], _Stage] = {}

    def take(self, request: RolloutRequest, rollouts: Rollouts) -> None:
        """Takes what became of a request."""
        if not any(attempt.recalled for attempt in rollouts.attempts):
            return
        name = next((part for part in request.stage if isinstance(part, str)), "")
        stage = self._stages.setdefault((name, request.variant), _Stage())
        for attempt in rollouts.attempts:
            stage.add(attempt)

    def records(self, cycle: int) -> list[Recalled]:
        """The records of the cycle's stages, in the order in which they first recalled something; forgets them."""
        records = [
            Recalled(
                cycle=cycle,
                stage=name,
                variant=variant,
                attempts=stage.attempts,
                recalls=stage.recalls,
                silent=stage.silent,
                lessons=list(stage.lessons),
                shown=stage.shown,
                left_out=stage.left_out,
            )
            for (name, variant), stage in self._stages.items()
        ]
        self._stages = {}
        return records


class _Stage:
    """Recalls of one stage and variant."""

    def __init__(self) -> None:
        self.attempts = self.recalls = self.silent = self.left_out = 0
        self.lessons: dict[str, int] = {}
        self.shown: list[Shown] = []
        self._place = 0

    def add(self, attempt: Attempt) -> None:
        """Takes the next attempt."""
        place, self._place = self._place, self._place + 1
        if not attempt.recalled:
            return
        self.attempts += 1
        self.recalls += len(attempt.recalled)
        self.silent += sum(not found for found in attempt.recalled)
        ids = list(chain.from_iterable(attempt.recalled))
        if not ids:
            return
        if len(self.shown) >= ROWS:
            self.left_out += 1
            return
        rows = [self.lessons.setdefault(id, len(self.lessons)) for id in ids]
        score = attempt.verdict.score if attempt.answered else None
        self.shown.append(Shown(attempt=place, lessons=rows, score=score))
