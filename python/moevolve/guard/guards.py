"""The guards of a run, by the names that its file gives them."""

from __future__ import annotations

from collections.abc import Callable

from moevolve.guard.alignment import Alignment
from moevolve.guard.canaries import Canaries
from moevolve.guard.drift import Drift
from moevolve.guard.guard import CycleEnd, Guard, Promotion, Watched
from moevolve.guard.honeypots import Honeypots
from moevolve.records import Guarded

GUARDS: dict[str, Callable[[Watched], Guard]] = {
    "drift": Drift,
    "canaries": Canaries,
    "honeypots": Honeypots,
    "alignment": Alignment,
}


class Guards:
    """All guards of a run.

    Args:
        watched: the run; its file says which guards are on.
    """

    def __init__(self, watched: Watched) -> None:
        self._guards = [GUARDS[name](watched) for name in watched.config.guard.use]

    def promotion(self, case: Promotion) -> list[Guarded]:
        """What they hold of a candidate that has passed the gate."""
        found = (guard.promotion(case) for guard in self._guards)
        return [record for record in found if record is not None]

    def cycle(self, end: CycleEnd) -> list[Guarded]:
        """What they hold of the run after a cycle."""
        found = (guard.cycle(end) for guard in self._guards)
        return [record for record in found if record is not None]
