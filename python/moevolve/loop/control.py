"""Where a run hears of requests: from its own record first, then from its folder.

A run that goes on, or is done again, takes up each request where the record has it, and none before the record ends.
"""

from __future__ import annotations

import msgspec

from moevolve.journal.control import Inbox, Request
from moevolve.journal.store import RunStore
from moevolve.loop.variants import genome_in
from moevolve.records import Controlled, Imported


class Stopped(Exception):
    """A person asked for the run's end."""


class Asked(msgspec.Struct, frozen=True):
    """A request that is to be taken up now."""

    number: int
    request: Request
    fresh: bool
    """Whether it is taken up for the first time."""
    imported: Imported | None = None
    """What became of an import that was taken up before."""


class Control:
    """The requests of one run in the order of its record.

    Args:
        store: the run, open for writing.
        recorded: the run that is done again, where one is: nobody asks anything new of it.
    """

    def __init__(self, store: RunStore, recorded: RunStore | None = None) -> None:
        self._stored = recorded or store
        self._inbox = None if recorded is not None else Inbox(store.path)
        self._length = len(self._stored)
        numbers = (
            record.request
            for _, record, _ in self._stored.records()
            if isinstance(record, Controlled | Imported)
        )
        self._taken = max(numbers, default=0)

    def waiting(self) -> bool:
        """Whether something is asked that has not been taken up."""
        return self._inbox is not None and self._inbox.next(self._taken) is not None

    def next(self, cursor: int) -> Asked | None:
        """What is asked of the run that has written its first `cursor` records."""
        if cursor < self._length:
            record = self._stored.entries(cursor, 1)[0].record
            if isinstance(record, Imported):
                files = genome_in(self._stored, record.program).files if record.program else {}
                return Asked(record.request, Request(command="import", files=files), False, record)
            if not isinstance(record, Controlled):
                return None
            return Asked(record.request, Request(command=record.command, variant=record.variant), False)
        found = self._inbox.next(self._taken) if self._inbox is not None else None
        if found is None:
            return None
        self._taken = found[0]
        return Asked(*found, True)
