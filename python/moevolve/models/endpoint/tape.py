"""Exchanges on record: what a run has been told once it need not ask for again, and a replay asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from moevolve.errors import StoreError
from moevolve.journal.store import RunStore
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.intents import Intents
from moevolve.protocol import packing
from moevolve.records import Timing

TABLE = "exchange"
BEGUN = "exchange_begun"
"""What a request had come to when the process that asked it ended."""


class _Row(msgspec.Struct, frozen=True):
    cursor: int
    """Records that the journal held when the run first used the exchange."""
    exchange: Exchange


_decode = msgspec.msgpack.Decoder(_Row, ext_hook=packing.wide).decode


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
        self._intents = Intents(store.path)
        if left := self._intents.left():
            puts: list[tuple[str, str, bytes | None]] = [
                (BEGUN, digest, packing.encode(_Row(cursor(), exchange)))
                for digest, exchange in left.items()
                if self._row(store, digest) is None
            ]
            store.batch([], Timing(at=0.0), puts=puts)
        self._intents.settle()

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
        puts: list[tuple[str, str, bytes | None]] = []
        for digest, exchange in exchanges:
            puts += [(TABLE, digest, packing.encode(_Row(cursor, exchange))), (BEGUN, digest, None)]
        self._store.batch([], Timing(at=0.0), puts=puts)

    def begin(self, digest: str, so_far: Exchange) -> None:
        """Puts on record that a call is about to be made."""
        self._intents.begin(digest, so_far)

    def sent(self, digest: str) -> None:
        """Puts on record that the call is out."""
        self._intents.sent(digest)

    def settle(self) -> None:
        """Nothing is under way: every exchange that was begun is kept."""
        self._intents.settle()

    def begun(self, digest: str) -> Exchange | None:
        """What a request had come to when the process that asked it ended."""
        row = self._row(self._store, digest, BEGUN)
        return None if row is None else row.exchange

    def before(self, cursor: int) -> set[str]:
        """Requests that were used before the journal held `cursor` records."""
        return {digest for digest, row in self._store.scan(TABLE) if _decode(row).cursor < cursor}

    def refused(self) -> dict[str, str]:
        """Fields that the server was found to refuse, with its words."""
        found: dict[str, str] = {}
        for _, row in self._store.scan(TABLE):
            found |= _decode(row).exchange.refused
        return found

    def _row(self, store: RunStore, digest: str, table: str = TABLE) -> _Row | None:
        data = store.get(table, digest)
        try:
            return None if data is None else _decode(data)
        except msgspec.DecodeError as error:
            raise StoreError(
                f"exchange {digest[:12]} of {store.path} is none of this version: {error}"
            ) from error
