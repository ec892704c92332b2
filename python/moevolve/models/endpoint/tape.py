"""Exchanges on record: what a run has been told once it need not ask for again, and a replay asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from moevolve.errors import StoreError
from moevolve.journal.store import RunStore
from moevolve.models.endpoint.exchange import Exchange
from moevolve.records import Timing

TABLE = "exchange"


class _Row(msgspec.Struct, frozen=True):
    cursor: int
    """Records that the journal held when the run first used the exchange."""
    exchange: Exchange


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class Tape:
    """The exchanges of one run.

    Args:
        store: the run, open for writing.
        cursor: how many records of the journal come before what is done now.
        source: another run that every exchange is taken from, so that a replay needs no server.
    """

    def __init__(self, store: RunStore, cursor: Callable[[], int], source: RunStore | None = None) -> None:
        self._store = store
        self._cursor = cursor
        self._source = source

    def find(self, digest: str) -> Exchange | None:
        """The exchange of a request, if it is on record."""
        row = self._row(self._store, digest)
        if row is None and self._source is not None:
            row = self._row(self._source, digest)
            if row is not None:
                self.keep([(digest, row.exchange)])
        return row.exchange if row is not None else None

    def keep(self, exchanges: Sequence[tuple[str, Exchange]]) -> None:
        """Puts exchanges on record in one durable commit."""
        if not exchanges:
            return
        cursor = self._cursor()
        puts = [(TABLE, digest, _encode(_Row(cursor, exchange))) for digest, exchange in exchanges]
        self._store.batch([], Timing(at=0.0), puts=puts)

    def before(self, cursor: int) -> set[str]:
        """Requests that were used before the journal held `cursor` records."""
        return {digest for digest, row in self._store.scan(TABLE) if _decode(row).cursor < cursor}

    def _row(self, store: RunStore, digest: str) -> _Row | None:
        data = store.get(TABLE, digest)
        try:
            return None if data is None else _decode(data)
        except msgspec.DecodeError as error:
            raise StoreError(
                f"exchange {digest[:12]} of {store.path} is none of this version: {error}"
            ) from error
