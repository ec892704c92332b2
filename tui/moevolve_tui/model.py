"""One run on the screens: the view of its journal, what its writer says, and entries on demand. No terminal here."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from moevolve.errors import MoevolveError, SchemaError, StoreError
from moevolve.journal.kinds import Tone
from moevolve.journal.ratings import optimises
from moevolve.journal.reader import Readable, RunReader
from moevolve.journal.text import line, lines
from moevolve.journal.view import RunView, describe, status_of
from moevolve.records import Entry, GateProgress, Record, Sandbox, Session, State, Status
from moevolve_tui.turns import Turns

CHUNK = 512
"""Entries of one piece: some milliseconds of work, after which keys come first."""
STRETCH = 4096
"""Entries that the store is asked for at once."""
PATIENCE = 20
"""Polls for which a folder may fail to open: a run that is just being created is not yet whole."""

Standing = Status | Literal["waiting", "deleted"]
Probe = Callable[[Path], Hashable | None]
"""What tells one journal file from another at a path; None where there is none."""


class Folder(Readable, Protocol):
    """What the screens need of `RunStore`."""

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]: ...
    def blob(self, hash: str) -> bytes: ...
    def sandbox(self) -> Sandbox | None: ...
    def sessions(self, limit: int = 100) -> list[Session]: ...
    def close(self) -> None: ...


def file_probe(path: Path) -> Hashable | None:
    """Device and inode of the journal's file in a run's folder."""
    try:
        found = (path / "journal" / "data.mdb").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unread(error: Exception, entries: int) -> str:
    """Why a journal is not read on."""
    what = f"{type(error).__name__}, {line(str(error)) or 'without a word'}"
    return f"The journal is read up to record {entries:,}; what follows does not fit together ({what})"


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
    """A run that is followed. The reading thread calls `advance`, the drawing one everything else, each in its turn.

    Args:
        path: the run's folder.
        open_run: opens it for reading.
        probe: tells whether the folder still holds the same journal.
        turns: who may touch the view now.
        until: for a replay, the number of entries that are folded; None for all there are.
    """

    def __init__(
        self,
        path: Path,
        open_run: Callable[[Path], Folder],
        probe: Probe = file_probe,
        turns: Turns | None = None,
        until: int | None = None,
    ) -> None:
        self.path = path
        self.turns = turns or Turns()
        self.until = until
        self.frozen = False
        self.notice = ""
        """What happened to the folder, in a sentence."""
        self.fault = ""
        """Why nothing could be read just now; empty when reading works."""
        self.hopeless = False
        """There is no point in reading on."""
        self.folder: Folder | None = None
        self.first = ""
        """Hash of the first entry: what the run is known by."""
        self.opener = open_run
        self.probe = probe
        self._held: Hashable | None = None
        self._failures = 0
        self._restart()

    def _restart(self) -> None:
        self._broken = False
        """A record could not be taken: what follows it is none of this view's."""
        self.view = RunView()
        self.reader: RunReader | None = None
        self.status: Standing = "waiting"
        self.stage = ""
        self.done: float | None = None
        self.eta: float | None = None
        self.error = ""
        self.pid = 0
        self.gate: GateProgress | None = None
        self.alive = False
        self.seconds = 0.0
        self.total = 0
        """Entries on file."""
        self.revision = 0
        """Grows with every change of the view, so that a drawing can be kept until it is stale."""
        self.state_revision = 0
        self._ahead: Iterator[tuple[int, Record, float]] = iter(())
        self._seen: tuple[State | None, bool, str] | None = None

    # For the reading thread

    def advance(self) -> tuple[bool, bool]:
        """Reads one piece; returns whether something changed, and whether more is on file. Never raises for what is wrong
        with the folder."""
        try:
            return self._advance()
        except (MoevolveError, OSError) as error:
            self._failures += 1
            was = self.fault
            if isinstance(error, SchemaError) or (self.folder is None and self._failures >= PATIENCE):
                self.hopeless = True
                self.fault = line(str(error))
            elif self.folder is not None:
                self.fault = f"The journal cannot be read just now: {line(str(error))}"
            return self.fault != was, False
        except Exception as error:  # noqa: BLE001  a record that no run writes ends the reading, not the screens
            self.hopeless = self._broken = True
            self.fault = unread(error, self.view.entries)
            return True, False

    def _advance(self) -> tuple[bool, bool]:
        held = self.probe(self.path)
        if held is None:
            return self._absent(), False
        if self._broken and held == self._held:
            return False, False
        if held != self._held:
            self._attach(held)
        folder = self.folder
        assert folder is not None, "a folder that is there was opened"
        if self.frozen:
            # The heading counts what is new.
            was, self.total = self.total, len(folder)
            return self.total != was, False
        # In this order: a writer that says its last word and ends in between has then been heard.
        alive, state = folder.writer_alive(), folder.state()
        self.total = len(folder)
        rows = self._next(folder)
        with self.turns.reading():
            for row in rows:
                self.view.take(*row)
            self.seconds = max(self.seconds, self.view.seconds)
            self.revision += bool(rows)
            self._observe(state, alive)
        self._failures, self.fault = 0, ""
        now = (state, alive, self.fault)
        changed = bool(rows) or now != self._seen
        self._seen = now
        return changed, bool(rows)

    def _next(self, folder: Folder) -> list[tuple[int, Record, float]]:
        """The next records, at most `CHUNK` of them.

        The store is asked for more at a time: it lets a long stretch of its file go again at once, of a short one it
        keeps what the system read around it.
        """
        room = CHUNK if self.until is None else min(CHUNK, max(0, self.until - self.view.entries))
        rows = list(islice(self._ahead, room))
        if not rows and room:
            self._ahead = iter(folder.records(self.view.entries, STRETCH))
            rows = list(islice(self._ahead, room))
        return rows

    def _absent(self) -> bool:
        """The folder holds no journal: not yet, or no more."""
        if self.folder is None or self.status == "deleted":
            return False
        with self.turns.reading():
            self.status, self._held = "deleted", None
            self.notice = "The run's folder was deleted; what is shown was read before"
            self.state_revision += 1
        return True

    def _attach(self, held: Hashable) -> None:
        if self.folder is not None:
            # A process opens a path once: what lies there now waits for what lay there before to be let go.
            with self.turns.reading():
                self.folder.close()
        folder = self.opener(self.path)
        beginning = folder.entries(0, 1)
        first = beginning[0].hash if beginning else ""
        with self.turns.reading():
            if self.first and first != self.first:
                self._restart()
                self.notice = "Another run was begun in this folder: this is the new one"
            elif self.status == "deleted":
                self.notice = ""
            if len(folder) < self.view.entries:
                self._restart()
            self.first, self._held, self.folder = first, held, folder
            self._ahead = iter(())
            self.reader = RunReader(folder)
            self.reader.view = self.view
            self.state_revision += 1

    def _observe(self, state: State | None, alive: bool) -> None:
        """Takes what the writer says of itself. Running without a living writer means stopped."""
        if not self.first and self.view.entries and self.folder is not None:
            self.first = self.folder.entries(0, 1)[0].hash
        self.alive = alive
        if not self.view.entries and state is None and not alive:
            self.status = "waiting"
            return
        self.status = status_of(self.view.finished, state, alive)
        self.pid = state.pid if state is not None else 0
        if self.until is not None:
            self.status = "finished" if self.view.finished else "running"
            return
        if state is not None:
            self.stage = line(state.stage)
            self.done = state.done
            self.eta = state.eta if self.status == "running" else None
            self.error = lines(state.error or "")
            self.gate = state.gate if self.status == "running" else None
            self.seconds = max(self.seconds, state.seconds)
            self.state_revision += 1

    # For the drawing thread

    @property
    def entries(self) -> int:
        """Entries that were folded."""
        return self.view.entries

    @property
    def loading(self) -> bool:
        """Whether much is on file that was not folded yet."""
        aim = self.total if self.until is None else min(self.until, self.total)
        return not self.frozen and aim - self.view.entries > CHUNK

    @property
    def optimises(self) -> bool:
        """Whether an evaluator scores the run's programs: there are no skills, weights and gate."""
        return optimises(self.view.started)

    @property
    def run(self) -> str:
        return line(self.view.started.run) if self.view.started else ""

    @property
    def name(self) -> str:
        """The run's name, or that of its folder while it has none."""
        return self.run or line(self.path.name)

    def entry(self, seq: int) -> Entry | None:
        """One entry; None where it cannot be read any more."""
        try:
            return None if self.reader is None else self.reader.entry(seq)
        except (StoreError, OSError):
            return None

    def line(self, seq: int) -> LogLine:
        """The log's line of an entry."""
        entry = self.entry(seq)
        return LogLine(seq, 0.0, "cannot be read any more", "quiet") if entry is None else log_line(entry)

    def words(self, row: int) -> str:
        """What a variant changes."""
        from moevolve.records import VariantAdded

        entry = self.entry(self.view.variants.entry(row))
        if entry is None or not isinstance(entry.record, VariantAdded):
            return ""
        return line(entry.record.summary or entry.record.operator)

    def close(self) -> None:
        """Lets go of the run's file."""
        if self.folder is not None:
            self.folder.close()
