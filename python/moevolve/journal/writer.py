"""The journal's writer: appends what is new and checks what is on record already.

A resumed run starts again at the last finished cycle and does the cycle in progress once more. Up to the journal's end
each record must equal the one on file; from there on records are appended. So a run that was killed anywhere ends with
the journal head of the undisturbed run, or stops with the first record that differs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from moevolve.errors import DivergedError
from moevolve.journal.store import Put, RunStore
from moevolve.records import Entry, GateProgress, Record, State, Timing


class JournalWriter:
    """Writes one run's records in order.

    Args:
        store: the run, open for writing.
        cursor: how many records of the journal come before what is done now.
        on_event: called with every entry that is new.
        on_state: called with every change of state.
    """

    def __init__(
        self,
        store: RunStore,
        cursor: int,
        on_event: Callable[[Entry], None] | None = None,
        on_state: Callable[[State], None] | None = None,
    ) -> None:
        self.store = store
        self.cursor = cursor
        self._on_event = on_event
        self._on_state = on_state
        self._stored = len(store)
        last = store.entries(self._stored - 1, 1) if self._stored else []
        self._before = last[0].timing.at if last else 0.0
        self._started = time.monotonic()
        self._last = self._started
        self._beside: list[Put] = []
        self.gate: GateProgress | None = None
        """The comparison under way, which `state` tells of."""

    @property
    def seconds(self) -> float:
        """Time spent on this run so far, over all its processes."""
        return self._before + time.monotonic() - self._started

    def keep(self, puts: Sequence[Put]) -> None:
        """Lays table entries aside that the next commit writes: what belongs to its records, and is none."""
        self._beside += puts

    def write(
        self, records: Sequence[Record], *, puts: Sequence[Put] = (), blobs: Sequence[bytes] = ()
    ) -> None:
        """Puts records on file in one durable commit, with the table entries and blobs that belong to them.

        Raises:
            DivergedError: a record that is already on file differs.
        """
        known = min(len(records), max(0, self._stored - self.cursor))
        for entry, record in zip(
            self.store.entries(self.cursor, known) if known else [], records, strict=False
        ):
            if entry.record != record:
                raise DivergedError(
                    f"record {entry.seq} of {self.store.path} differs from what this run did again: on file "
                    f"{type(entry.record).__name__}, now {type(record).__name__}; the build or machine has changed"
                )
        now = time.monotonic()
        timing = Timing(at=self.seconds, took=now - self._last)
        self._last = now
        self.store.batch(list(records[known:]), timing, puts=[*self._beside, *puts], blobs=list(blobs))
        self._beside = []
        self.cursor += len(records)
        if self.cursor > self._stored:
            fresh = len(records) - known
            self._stored = self.cursor
            if self._on_event is not None:
                for entry in self.store.entries(self.cursor - fresh, fresh):
                    self._on_event(entry)

    def state(self, stage: str, done: float, *, status: str = "running", error: str | None = None) -> None:
        """Says what is being done now, outside the chain."""
        seconds = self.seconds
        eta = seconds * (1 - done) / done if 0.02 < done < 1 else None
        state = State(
            status=status,  # type: ignore[arg-type]
            pid=os.getpid(),
            stage=stage,
            done=min(1.0, max(0.0, done)),
            seconds=seconds,
            eta=eta,
            error=error,
            gate=self.gate if status == "running" else None,
        )
        self.store.set_state(state)
        if self._on_state is not None:
            self._on_state(state)
