"""Training and practice of a run in columns: what a curve needs of each record, and where the rest of it stands."""

from __future__ import annotations

from array import array
from typing import Literal

from moevolve.records import Attempted, Trained


class Losses:
    """Progress of training, one row a record."""

    def __init__(self) -> None:
        self.cycles = array("i")
        self.values = array("f")
        """Losses."""
        self.norms = array("f")
        """Norms of the gradient, before clipping."""
        self.rates = array("f")
        self.entries = array("q")
        """Sequence numbers of the records."""

    def __len__(self) -> int:
        return len(self.values)

    def append(self, record: Trained, seq: int) -> None:
        self.cycles.append(record.cycle)
        self.values.append(record.loss)
        self.norms.append(record.gradient_norm)
        self.rates.append(record.learning_rate)
        self.entries.append(seq)


class Practice:
    """Attempts on train tasks by cycle and source, one row a stage."""

    def __init__(self) -> None:
        self.cycles = array("i")
        self.sources = array("b")
        self.successes = array("q")
        self.attempts = array("q")

    def append(self, record: Attempted) -> None:
        self.cycles.append(record.cycle)
        self.sources.append(record.source == "program")
        self.successes.append(sum(tally.successes for tally in record.tallies))
        self.attempts.append(sum(tally.attempts for tally in record.tallies))

    def rates(self, source: Literal["direct", "program"]) -> list[tuple[int, int, int]]:
        """(cycle, successes, attempts) of a source, in order."""
        wanted = source == "program"
        rows = zip(self.cycles, self.sources, self.successes, self.attempts, strict=True)
        return [(cycle, right, tried) for cycle, through, right, tried in rows if through == wanted]
