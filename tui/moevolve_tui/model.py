"""What the panes show: the view of a run's journal, and what its writer says of itself. No terminal here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from moevolve.journal.kinds import Tone
from moevolve.journal.reader import Readable, RunReader
from moevolve.journal.text import line
from moevolve.journal.view import RunView, describe, status_of
from moevolve.records import Entry, Record, State, Status


class LogLine(msgspec.Struct, frozen=True):
    """One record in the log; `at` is seconds since the run's first entry."""

    seq: int
    at: float
    text: str
    tone: Tone


def log_line(entry: Entry) -> LogLine:
    """An entry as the log shows it."""
    text, tone = describe(entry.record)
    return LogLine(entry.seq, entry.timing.at, text, tone)


class RunModel:
    """A run on the screen. `fold` is the one way in for records, `observe` for the writer's state."""

    def __init__(self) -> None:
        self.view = RunView()
        self.seconds = 0.0
        self.status: Status | Literal["waiting"] = "waiting"
        self.stage = ""
        self.done: float | None = None
        self.eta: float | None = None
        self.error = ""
        self.revision = 0
        """Grows with every change of the view, so that a drawing can be kept until it is stale."""
        self._reader: RunReader | None = None

    @property
    def entries(self) -> int:
        """Entries that were folded."""
        return self.view.entries

    @property
    def run(self) -> str:
        return line(self.view.started.run) if self.view.started else ""

    def attach(self, folder: Readable) -> None:
        """Names the folder that entries are read from on demand."""
        self._reader = RunReader(folder)
        self._reader.view = self.view

    def fold(self, records: Sequence[tuple[int, Record, float]]) -> None:
        """Takes the next records, each with its sequence number and time."""
        for seq, record, at in records:
            self.view.take(seq, record, at)
        self.seconds = max(self.seconds, self.view.seconds)
        self.revision += bool(records)

    def observe(self, state: State | None, alive: bool) -> None:
        """Takes what the writer says of itself. Running without a living writer means stopped."""
        if not self.entries and state is None and not alive:
            self.status = "waiting"
            return
        self.status = status_of(self.view.finished, state, alive)
        if state is not None:
            self.stage = line(state.stage)
            self.done = state.done
            self.eta = state.eta if self.status == "running" else None
            self.error = line(state.error or "")
            self.seconds = max(self.seconds, state.seconds)

    def line(self, seq: int) -> LogLine:
        """The log's line of an entry."""
        assert self._reader is not None, "entries come from a folder that was attached"
        return log_line(self._reader.entry(seq))

    def words(self, row: int) -> str:
        """What a variant changes."""
        assert self._reader is not None, "entries come from a folder that was attached"
        record = self._reader.variant(row)
        return line(record.summary or record.operator)
