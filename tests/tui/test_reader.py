from collections.abc import Sequence
from pathlib import Path

import synthetic_run as synthetic
from memory_run import MemoryRun

from moevolve.errors import SchemaError, StoreError, UsageError
from moevolve.records import Entry
from moevolve_tui.reader import CHUNK, PATIENCE, Reader

ENTRIES = synthetic.entries()


def reader_of(folder: MemoryRun) -> Reader:
    return Reader(lambda: Path("run"), lambda _: folder)


def test_a_poll_brings_what_is_new_and_nothing_twice() -> None:
    folder = MemoryRun(ENTRIES[:3])
    reader = reader_of(folder)
    first = reader.poll()
    assert first is not None and [seq for seq, _, _ in first.records] == [0, 1, 2]
    assert reader.poll() is None
    folder.written = ENTRIES[:5]
    second = reader.poll()
    assert second is not None and [seq for seq, _, _ in second.records] == [3, 4]


def test_a_changed_state_is_news_without_entries() -> None:
    folder = MemoryRun(ENTRIES[:3], synthetic.state_at(3))
    reader = reader_of(folder)
    reader.poll()
    folder.alive = False
    news = reader.poll()
    assert news is not None and not news.records and not news.alive


def test_a_long_journal_comes_in_pieces() -> None:
    folder = MemoryRun([ENTRIES[2]] * (CHUNK + 5))
    reader = reader_of(folder)
    first, second = reader.poll(), reader.poll()
    assert first and first.more and len(first.records) == CHUNK
    assert second and not second.more and len(second.records) == 5


def test_it_waits_for_a_run_that_starts_later() -> None:
    here: list[Path] = []
    reader = Reader(lambda: here[0] if here else None, lambda _: MemoryRun(ENTRIES[:1]))
    assert all(reader.poll() is None for _ in range(PATIENCE * 3))
    here.append(Path("run"))
    news = reader.poll()
    assert news is not None and len(news.records) == 1


def test_a_folder_that_never_becomes_a_run_is_given_up_with_its_reason() -> None:
    def alien(_: Path) -> MemoryRun:
        raise UsageError("no run in here")

    reader = Reader(lambda: Path("here"), alien)
    news = [reader.poll() for _ in range(PATIENCE)]
    assert news[:-1] == [None] * (PATIENCE - 1)
    assert news[-1] is not None and news[-1].fatal and news[-1].fault == "no run in here"


def test_a_newer_schema_is_given_up_at_once() -> None:
    def newer(_: Path) -> MemoryRun:
        raise SchemaError("schema 9 is newer than 1")

    news = Reader(lambda: Path("here"), newer).poll()
    assert news is not None and news.fatal


def test_a_fault_while_reading_is_told_once_and_passes() -> None:
    class Flaky(MemoryRun):
        broken = False

        def entries(self, start: int = 0, limit: int | None = None) -> Sequence[Entry]:
            if self.broken:
                raise StoreError("torn page")
            return super().entries(start, limit)

    folder = Flaky(ENTRIES[:2])
    reader = reader_of(folder)
    reader.poll()
    folder.broken = True
    news = reader.poll()
    assert news is not None and "torn page" in news.fault and not news.fatal
    assert reader.poll() is None
    folder.broken = False
    healed = reader.poll()
    assert healed is not None and not healed.fault
