"""Reads a run's store from outside its process, a few times a second, and says what is new.

A poll is one short read; between polls nothing is held, so a watcher can neither block nor break the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from moevolve.errors import MoevolveError, SchemaError
from moevolve.journal.reader import Readable
from moevolve.records import Record, State

CHUNK = 2048
"""Entries of one poll: a long journal arrives in pieces, and the screen answers in between."""
PATIENCE = 20
"""Polls for which a folder may fail to open: a run that is just being created is not yet whole."""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since the poll before."""

    folder: Readable | None = None
    records: Sequence[tuple[int, Record, float]] = ()
    """Sequence number, record and time of each."""
    state: State | None = None
    alive: bool = False
    more: bool = False
    """The journal holds more entries; poll again at once."""
    fault: str = ""
    """Why nothing could be read just now; empty when reading works."""
    fatal: bool = False
    """There is no point in polling on."""


class Reader:
    """Follows one run.

    Args:
        locate: gives the run's folder, or None as long as there is no run to open.
        open_run: opens it for reading.
    """

    def __init__(self, locate: Callable[[], Path | None], open_run: Callable[[Path], Readable]) -> None:
        self._locate = locate
        self._open = open_run
        self._folder: Readable | None = None
        self._next = 0
        self._failures = 0
        self._last: tuple[State | None, bool, str] | None = None

    def poll(self) -> News | None:
        """What is new, or None. Never raises for what is wrong with the folder."""
        try:
            return self._read()
        except (MoevolveError, OSError) as error:
            self._failures += 1
            hopeless = isinstance(error, SchemaError) or (self._folder is None and self._failures >= PATIENCE)
            if hopeless:
                return News(fault=str(error), fatal=True)
            if self._folder is None:
                return None
            return self._changed(News(fault=f"The journal cannot be read just now: {error}"))

    def _read(self) -> News | None:
        if self._folder is None:
            path = self._locate()
            if path is None:
                return None
            self._folder = self._open(path)
        # In this order: a writer that says its last word and ends in between has then been heard.
        alive = self._folder.writer_alive()
        state = self._folder.state()
        records = list(self._folder.records(self._next, CHUNK))
        self._next += len(records)
        self._failures = 0
        news = News(
            folder=self._folder, records=records, state=state, alive=alive, more=len(records) == CHUNK
        )
        return self._changed(news)

    def _changed(self, news: News) -> News | None:
        seen = (news.state, news.alive, news.fault)
        if not news.records and seen == self._last:
            return None
        self._last = seen
        return news
