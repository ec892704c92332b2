"""Follows a run's journal: the view of it, and entries on demand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Protocol

from moevolve.errors import StoreError, UsageError
from moevolve.journal.archive import Archive, Variant
from moevolve.journal.variants import Fate
from moevolve.journal.view import RunView, status_of
from moevolve.records import Entry, Record, RunStarted, State, Status, VariantAdded

PAGE = 256
"""Entries of a page that is kept."""
PAGES = 8
"""Pages that are kept."""


class Readable(Protocol):
    """What a reader needs of `RunStore`."""

    def __len__(self) -> int: ...
    def entries(self, start: int = 0, limit: int | None = None) -> Sequence[Entry]: ...
    def records(self, start: int = 0, limit: int | None = None) -> Iterator[tuple[int, Record, float]]: ...
    def state(self) -> State | None: ...
    def writer_alive(self) -> bool: ...


class RunReader:
    """A run's view, brought up to date on demand.

    Args:
        store: the run, open for reading.
    """

    def __init__(self, store: Readable) -> None:
        self.store = store
        self.view = RunView()
        self.state: State | None = None
        self.alive = False
        self._pages: OrderedDict[int, list[Entry]] = OrderedDict()

    def refresh(self, limit: int | None = None) -> int:
        """Takes what is new, at most `limit` entries; returns how many there were."""
        # In this order: a writer that says its last word and ends in between has then been heard.
        self.alive = self.store.writer_alive()
        self.state = self.store.state()
        before = self.view.entries
        take = self.view.take
        for seq, record, at in self.store.records(before, limit):
            take(seq, record, at)
        return self.view.entries - before

    @property
    def status(self) -> Status:
        return status_of(self.view.finished, self.state, self.alive)

    @property
    def started(self) -> RunStarted:
        """The run's first record.

        Raises:
            UsageError: nothing is recorded yet.
        """
        if self.view.started is None:
            raise UsageError(
                "the run holds no record yet: it has only begun, or ended before it recorded anything"
            )
        return self.view.started

    def entry(self, seq: int) -> Entry:
        """One entry, by way of a page that is kept.

        Raises:
            StoreError: there is none.
        """
        index, offset = divmod(seq, PAGE)
        page = self._pages.get(index)
        if page is None or len(page) <= offset:
            page = list(self.store.entries(index * PAGE, PAGE))
            self._pages[index] = page
            if len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(index)
        if len(page) <= offset:
            raise StoreError(f"the journal has no entry {seq}")
        return page[offset]

    def variant(self, row: int) -> VariantAdded:
        """A variant's own record."""
        record = self.entry(self.view.variants.entry(row)).record
        assert isinstance(record, VariantAdded), "a row names the entry that added it"
        return record

    def archive(self) -> Archive:
        """Every variant so far as an archive, rejected ones included."""
        archive, variants = Archive(), self.view.variants
        for row in range(len(variants)):
            record = self.variant(row)
            crowned = record.variant == self.view.champion
            archive.add(
                Variant(
                    record.variant,
                    [variants.name(parent) for parent in variants.parents(row)],
                    record.cycle,
                    record.weights,
                    record.program,
                    record.level,
                    record.operator,
                    record.summary,
                    variants.screening(row),
                    "champion" if crowned else _STATUS[variants.fate(row)],
                )
            )
        return archive


_STATUS: dict[Fate, str] = {
    "seed": "kept",
    "proposed": "candidate",
    "screened": "candidate",
    "chosen": "candidate",
    "screened out": "rejected",
    "discarded": "rejected",
    "not screened": "kept",
    "not chosen": "kept",
    "promoted": "kept",
    "kept": "kept",
    "undecided": "kept",
    "rolled back": "kept",
    "waiting": "waiting",
    "vetoed": "vetoed",
    "refused": "rejected",
    "failed": "rejected",
}
"""Fate -> status of a variant in the archive."""


def read(store: Readable) -> RunReader:
    """The reader of a run as it is on file now."""
    reader = RunReader(store)
    reader.refresh()
    return reader
