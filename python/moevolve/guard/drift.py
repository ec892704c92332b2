"""Drift: a skill of the champion that falls over the cycles, whatever each single decision said."""

from __future__ import annotations

from moevolve.guard.guard import CycleEnd, Promotion, Watched, share, suspects
from moevolve.guard.trend import Block, trend
from moevolve.records import Guarded
from moevolve.rollouts.attempts import answered


class Drift:
    """Compares every skill's success on the dev tasks of the newest cycles with that of earlier ones.

    Args:
        watched: the run.
    """

    name = "drift"

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def promotion(self, case: Promotion) -> Guarded | None:
        return None

    def cycle(self, end: CycleEnd) -> Guarded:
        rates: dict[str, Block] = dict.fromkeys(self._watched.skills, (0, 0))
        attempts = answered(end.dev)
        for attempt in attempts:
            wins, tries = rates[attempt.task.skill]
            rates[attempt.task.skill] = (wins + attempt.verdict.success, tries + 1)
        known = self._watched.memory.add(self.name, rates)
        found = trend(known, self._watched.config.guard.drift_margin, share(self._watched.config))
        failed = [
            (attempt.task.id, attempt)
            for attempt in attempts
            if attempt.task.skill == found.name and not attempt.verdict.success
        ]
        first, last, length = found.cycles
        where = (
            f", cycles {first} to {first + length - 1} and {last} to {last + length - 1}" if length else ""
        )
        return Guarded(
            cycle=end.cycle,
            guard=self.name,
            checked=len(rates),
            vetoed=0,
            detail=f"{'a skill falls' if found.alarm else 'no skill falls'}: {found.words}{where}",
            variant=end.champion.id,
            alarm=found.alarm,
            evidence=found.evidence,
            proof=found.proof,
            attempts=suspects(failed) if found.alarm else [],
        )
