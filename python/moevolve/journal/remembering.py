"""What a run's memory did, as counts: recalls, and attempts that were made with it and without."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.journal.intervals import gain_of_sums
from moevolve.journal.scores import Gain


class MemoryCounts:
    """Counts of memory over a run."""

    def __init__(self) -> None:
        self.recalls = 0
        self.silent = 0
        """Recalls that no lesson answered."""
        self.expired = 0
        self.outlived = 0
        self.notes = 0
        """Texts of programs that were kept."""
        self.refused = 0
        self.pairs = 0
        """Attempts that were made with memory and without, and answered both times."""
        self._sum = 0.0
        self._squares = 0.0

    def pair(self, with_memory: Sequence[float | None], without: Sequence[float | None]) -> None:
        """Takes the scores of attempts that were made both ways."""
        for ours, theirs in zip(with_memory, without, strict=True):
            if ours is not None and theirs is not None:
                self.pairs += 1
                self._sum += ours - theirs
                self._squares += (ours - theirs) ** 2

    @property
    def gain(self) -> Gain | None:
        """What memory brought to attempts that recalled something; None before any was made without."""
        return Gain(*gain_of_sums(self.pairs, self._sum, self._squares)) if self.pairs else None
