"""What a run's memory did, as counts: recalls, and attempts that were made with it and without."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.journal.figures import bounds, counted, signed
from moevolve.journal.intervals import gain_of_sums
from moevolve.journal.scores import Gain
from moevolve.records import Consolidated


class MemoryCounts:
    """Counts of memory over a run."""

    def __init__(self) -> None:
        self.recalls = 0
        self.practised = 0
        """Those of the champion's program in practice."""
        self.silent = 0
        """Recalls that no lesson answered."""
        self.expired = 0
        self.outlived = 0
        self.notes = 0
        """Texts of programs that were kept."""
        self.refused = 0
        self.merges: dict[str, int] = {}
        """Lessons made one and not taken back: the merge's name -> the number of its record."""
        self._made: dict[str, tuple[str, list[str]]] = {}
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

    def merge(self, record: Consolidated, seq: int) -> None:
        """Takes lessons that were made one, by the record of this number."""
        if record.decision == "merged":
            self.merges[record.merge] = seq
            self._made[record.merge] = record.lesson, record.sources

    def take_back(self, name: str) -> bool:
        """Takes back a merge and those that were made of its lesson; whether it was there."""
        if name not in self.merges:
            return False
        lessons: set[str] = set()
        for merge in list(self.merges):
            lesson, sources = self._made[merge]
            if merge == name or lessons & set(sources):
                lessons.add(lesson)
                del self.merges[merge], self._made[merge]
        return True

    @property
    def gain(self) -> Gain | None:
        """What memory brought to attempts that recalled something; None before any was made without."""
        return Gain(*gain_of_sums(self.pairs, self._sum, self._squares)) if self.pairs else None


def brought(
    recalls: int, practised: int, gain: float | None, interval: tuple[float, float] | None, pairs: int
) -> str:
    """What memory brought in a sentence, with its interval, or why that is not known and how to find out.

    Args:
        recalls: of all programs.
        practised: those of the champion's program in practice.
        gain: of attempts with memory over the same ones without; None where none was made both ways.
        interval: of the gain, at 95 %.
        pairs: how many were made both ways.
    """
    if not recalls:
        return "No program asked memory, so it changed no answer"
    asked = f"Memory was asked {counted(recalls, 'time')}"
    if gain is not None:
        found = f"{signed(gain)} {bounds(interval, sign=True)} (95 %)"
        return f"{asked}; it brought {found} to attempts that recalled, n={pairs:,} made again without it"
    who = "none of those attempts was made again without it"
    if not practised:
        who = f"by candidates alone, since the champion's program recalls nothing, and {who}"
    return f"{asked}; {who}, so what it brought is not known: a run with `--set memory.mode=off` beside this one tells"
