"""The writer appends what is new and checks what is on record."""

from pathlib import Path

import pytest

from moevolve.errors import DivergedError
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.records import CycleStarted, Entry, State


@pytest.fixture
def store(tmp_path: Path):
    with RunStore.create(tmp_path / "run") as opened:
        yield opened


def started(cycle: int, champion: str = "v0000") -> CycleStarted:
    return CycleStarted(cycle=cycle, champion=champion)


def test_new_records_are_appended_and_told(store: RunStore) -> None:
    told: list[Entry] = []
    JournalWriter(store, 0, told.append).write([started(1), started(2)])
    assert [entry.record for entry in store.entries()] == [started(1), started(2)]
    assert [entry.seq for entry in told] == [0, 1]


def test_records_on_file_are_met_again_then_the_rest_is_appended(store: RunStore) -> None:
    JournalWriter(store, 0).write([started(1), started(2)])
    head = store.head()
    told: list[Entry] = []
    again = JournalWriter(store, 0, told.append)
    again.write([started(1)])
    assert store.head() == head
    assert not told
    again.write([started(2), started(3)])
    assert [entry.record for entry in told] == [started(3)]
    assert len(store) == 3


def test_a_record_that_differs_stops_the_run_and_changes_nothing(store: RunStore) -> None:
    JournalWriter(store, 0).write([started(1), started(2)])
    head = store.head()
    with pytest.raises(DivergedError, match="record 1"):
        JournalWriter(store, 0).write([started(1), started(2, "v0007")])
    assert store.head() == head


def test_time_goes_on_where_the_last_process_left_it(store: RunStore) -> None:
    JournalWriter(store, 0).write([started(1)])
    at = store.entries()[-1].timing.at
    assert JournalWriter(store, 1).seconds >= at


def test_the_state_is_told_and_stored_outside_the_chain(store: RunStore) -> None:
    told: list[State] = []
    JournalWriter(store, 0, None, told.append).state("cycle 1/2: training", 0.25)
    assert told[-1].stage == "cycle 1/2: training"
    assert store.state() == told[-1]
    assert len(store) == 0
