"""Typed access to the native store: what a run writes and every reader reads, as records.

`RunStore` is one run's folder: a hash-chained journal of records, tables, blobs, and the writer's state.

One process writes a run; any number of others read it at the same time. Nothing here works in a fork of the
process that opened it: use spawned processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from moevolve import _native
from moevolve.config.files import typed
from moevolve.errors import SchemaError, StoreError, UsageError
from moevolve.journal import seal
from moevolve.journal.version2 import upgrade
from moevolve.records import (
    SCHEMA_VERSION,
    Entry,
    Record,
    Sandbox,
    Session,
    State,
    Timing,
)

Put = tuple[str, str, bytes | None]
"""(table, key, value), or None as the value to delete the key."""

_PAGE = 4096
"""Entries fetched by one call, so that no read transaction is long."""
_SANDBOX = "sandbox"
"""Table of the walls around programs, by the journal's length at a session's start."""
_SESSIONS = "sessions"
"""Table of the processes that wrote the run, by the journal's length at their start."""
_LONGEST_TEXT = 2000
"""Characters of `State.stage` and `State.error` that are kept."""

# Sorted dicts: equal records have equal hashes, however their dicts were filled.
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_records: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_decode_timing = msgspec.msgpack.Decoder(Timing).decode
_decode_sandbox = msgspec.msgpack.Decoder(Sandbox).decode
_decode_session = msgspec.msgpack.Decoder(Session).decode
_decode_state = msgspec.msgpack.Decoder(State).decode


def decode_record(body: bytes) -> Record:
    """The record of a journal entry's body, of this schema version or an older one.

    Raises:
        msgspec.DecodeError: it is none.
    """
    try:
        return _records.decode(body)
    except msgspec.ValidationError as error:
        try:
            return upgrade(body)
        except (msgspec.DecodeError, KeyError):
            raise error from None


class RunStore:
    """One run's folder, open for reading or writing; a context manager.

    Attributes:
        path: the run's folder.
        weights_dir: where its weights lie.
    """

    def __init__(self, native: _native.RunStore, path: Path, *, write: bool) -> None:
        self._native = native
        self.path = path
        self.weights_dir = path / "weights"
        self._may_be_sealed = write

    @classmethod
    def create(cls, path: Path, *, map_size: int | None = None) -> RunStore:
        """Makes a new run in the folder `path` and opens it for writing.

        Args:
            path: the run's folder, made if missing.
            map_size: most bytes that journal, tables and blobs may have (address space); 16 GiB when None.

        Raises:
            UsageError: the folder holds a run already.
            StoreBusyError: another process is making one there.
            StorageFullError: no space is left.
        """
        path = Path(path)
        return cls(_native.RunStore.create(path, SCHEMA_VERSION, map_size), path, write=True)

    @classmethod
    def open(cls, path: Path, *, write: bool = False, map_size: int | None = None) -> RunStore:
        """Opens the run in the folder `path`.

        Raises:
            UsageError: the folder holds no run.
            StoreBusyError: `write`, and another process writes the run; the message names its id.
            SchemaError: a newer version of Moevolve wrote the run.
            StoreError: the journal's file is torn or alien.
        """
        path = Path(path)
        return cls(
            _native.RunStore.open(path, SCHEMA_VERSION, write=write, map_size=map_size), path, write=write
        )

    def close(self) -> None:
        """Lets go of the file and, for a writer, of the lock, once other threads have done with it; twice is allowed."""
        self._native.close()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The journal

    def append(self, records: Sequence[Record], timing: Timing) -> str:
        """Appends records in one durable commit; returns the new head.

        Raises:
            StorageFullError: no space is left; the journal is as it was before.
            StoreError: the run is open for reading only.
        """
        return self.batch(records, timing)

    def batch(
        self,
        records: Sequence[Record],
        timing: Timing,
        *,
        puts: Sequence[Put] = (),
        blobs: Sequence[bytes] = (),
    ) -> str:
        """Appends records, changes tables and stores blobs in one durable commit: all of it or nothing.

        Returns:
            the journal's head.
        """
        clock = _encode(timing)
        self._unseal()
        return self._native.commit([(_encode(record), clock) for record in records], list(puts), list(blobs))

    def entries(self, start: int = 0, limit: int | None = None) -> list[Entry]:
        """Entries from `start` on, at most `limit`; empty at the journal's end."""
        found: list[Entry] = []
        while limit is None or len(found) < limit:
            ask = _PAGE if limit is None else min(_PAGE, limit - len(found))
            rows = self._native.entries(start + len(found), ask)
            found.extend(self._entry(*row) for row in rows)
            if len(rows) < ask:
                break
        return found

    def records(self, start: int = 0, limit: int | None = None) -> Iterator[tuple[int, Record, float]]:
        """(sequence number, record, seconds since the first entry) from `start` on, read page by page."""
        decode, timing_of = _records.decode, _decode_timing
        while limit is None or limit > 0:
            ask = _PAGE if limit is None else min(_PAGE, limit)
            rows = self._native.entries(start, ask)
            for seq, hash, timing, body in rows:
                try:
                    record = decode(body)
                except msgspec.DecodeError:
                    record = self._entry(seq, hash, timing, body).record
                yield seq, record, timing_of(timing).at
            start += len(rows)
            limit = None if limit is None else limit - len(rows)
            if len(rows) < ask:
                return

    def require_current(self) -> None:
        """Makes sure that this version wrote the run, so that it can be gone on with or done again.

        Raises:
            SchemaError: an older version did.
        """
        for _, _, _, body in self._native.entries(0, 1):
            try:
                _records.decode(body)
            except msgspec.ValidationError:
                raise SchemaError(
                    f"an older version of Moevolve wrote {self.path}: it can be read, and neither gone on with nor "
                    f"done again; `moevolve run {typed(self.path / 'run.toml')}` starts a new run with its settings"
                ) from None

    def head(self) -> str:
        """The newest link of the chain in hexadecimal; 64 zeros while there is no entry."""
        return self._native.head()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._native)

    def __bool__(self) -> bool:
        """A store is true, also while it is empty."""
        return True

    def verify(self) -> int:
        """Recomputes the whole hash chain; returns the number of entries.

        Raises:
            StoreError: names the first entry that does not follow from the ones before it.
        """
        return self._native.verify()

    def _entry(self, seq: int, hash: str, timing: bytes, body: bytes) -> Entry:
        try:
            return Entry(seq=seq, record=decode_record(body), timing=_decode_timing(timing), hash=hash)
        except msgspec.DecodeError as error:
            raise StoreError(f"entry {seq} of {self.path} is no record of this version: {error}") from error

    # Blobs and tables

    def put_blob(self, data: bytes) -> str:
        """Stores bytes in a durable commit of their own; returns their BLAKE3 hash in hexadecimal."""
        self._unseal()
        return self._native.put_blob(data)

    def blob(self, hash: str) -> bytes:
        """The bytes of a hash, checked against it.

        Raises:
            StoreError: there are none, or they have another hash.
        """
        return self._native.blob(hash)

    def put(self, table: str, key: str, value: bytes) -> None:
        """Sets a table's value in a durable commit of its own; names have at most 510 bytes together."""
        self.puts([(table, key, value)])

    def puts(self, puts: Sequence[Put]) -> None:
        """Changes tables in one durable commit, all of it or nothing."""
        self._unseal()
        self._native.commit([], list(puts), [])

    def get(self, table: str, key: str) -> bytes | None:
        """A table's value, or None."""
        return self._native.get(table, key)

    def delete(self, table: str, key: str) -> None:
        """Deletes a table's key, if it is there."""
        self.puts([(table, key, None)])

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]:
        """A table's rows whose key starts with `prefix`, by key, or from the last one back."""
        return self._native.scan(table, prefix, limit=limit, reverse=reverse)

    # The writer's machine and state

    def set_sandbox(self, sandbox: Sandbox) -> None:
        """Notes the walls around programs in the session that begins at the journal's end; outside the chain."""
        self.put(_SANDBOX, f"{len(self):012d}", _encode(sandbox))

    def sandbox(self) -> Sandbox | None:
        """The walls that were there in every session, and those that were missing in any; None if none was noted."""
        sessions = [_decode_sandbox(value) for _, value in self.scan(_SANDBOX)]
        if not sessions:
            return None
        everywhere = set.intersection(*(set(session.layers) for session in sessions))
        missing = set[str]().union(*(session.missing for session in sessions))
        return Sandbox(
            layers=[layer for layer in sessions[-1].layers if layer in everywhere], missing=sorted(missing)
        )

    def add_session(self, session: Session) -> None:
        """Notes the process that goes on from the journal's end; outside the chain."""
        self.put(_SESSIONS, f"{len(self):012d}/{session.began:017.3f}", _encode(session))

    def sessions(self, limit: int = 100) -> list[Session]:
        """The processes that wrote the run, the newest last, at most `limit`; empty where none was noted."""
        rows = self.scan(_SESSIONS, limit=limit, reverse=True)
        return [_decode_session(value) for _, value in reversed(rows)]

    def set_state(self, state: State) -> None:
        """Says what the writer is doing. Cheap: not synced, outside the chain. Works on a full disk, too."""
        error = state.error and state.error[:_LONGEST_TEXT]
        self._unseal()
        self._native.set_state(
            _encode(msgspec.structs.replace(state, stage=state.stage[:_LONGEST_TEXT], error=error))
        )

    def state(self) -> State | None:
        """What the writer said last, as it said it; see `status_of` for what is true now."""
        data = self._native.state()
        try:
            return None if data is None else _decode_state(data)
        except msgspec.DecodeError as error:
            raise StoreError(f"the state of {self.path} is none of this version: {error}") from error

    def _unseal(self) -> None:
        """Takes the seal off before the first change: a sealed run is one that nobody has gone on with."""
        if self._may_be_sealed:
            seal.remove(self.path)
            self._may_be_sealed = False

    def writer_alive(self) -> bool:
        """Whether a process has the run open for writing now."""
        return self._native.writer_alive()


def is_run(path: Path) -> bool:
    """Whether the folder looks like a run, without opening it."""
    return _native.RunStore.is_run(path)


def list_runs(root: Path) -> list[Path]:
    """The runs in the folder `root` and in its subfolders, two levels deep, by path.

    Raises:
        UsageError: `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}")
    found = [path.parent.parent for pattern in _JOURNALS for path in root.glob(pattern)]
    return sorted(found)


_JOURNALS = ("journal/data.mdb", "*/journal/data.mdb", "*/*/journal/data.mdb")
