"""A run's store as the loop writes it and readers see it."""

import threading

import msgspec
import pytest
import store_samples as samples
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.errors import StoreError, UsageError
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore, list_runs
from moevolve.records import Attempted, Entry, Sandbox, Tally, Timing


def test_records_come_back_as_they_were(tmp_path):
    records = [samples.started(), *samples.cycles(range(3)), samples.finished()]
    with RunStore.create(tmp_path / "run") as store:
        head = store.append(records, samples.TIMING)
        entries = store.entries()
        assert [entry.record for entry in entries] == records
        assert [entry.seq for entry in entries] == list(range(5))
        assert {entry.timing for entry in entries} == {samples.TIMING}
        assert entries[-1].hash == head == store.head()
        assert len(store) == store.verify() == 5


def test_an_empty_run_has_no_entries_and_is_still_true(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        assert (len(store), store.entries(), store.head()) == (0, [], "0" * 64)
        assert store
        assert store.state() is None


def test_the_head_depends_on_records_alone(tmp_path):
    heads = []
    for name, timing in (("a", Timing(at=0.0)), ("b", Timing(at=99.0, took=7.0))):
        with RunStore.create(tmp_path / name) as store:
            store.append([samples.started()], timing)
            heads.append(store.append(samples.cycles(range(3)), timing))
    assert heads[0] == heads[1]


def test_the_order_in_which_a_dict_was_filled_does_not_matter(tmp_path):
    def record(failures):
        tally = Tally(skill="s", level=1, attempts=3, successes=0, failures=failures)
        return Attempted(cycle=1, stage="s", variant="v", source="direct", tallies=[tally], tokens=1)

    heads = []
    for name, failures in (("a", {"wrong": 1, "error": 2}), ("b", {"error": 2, "wrong": 1})):
        with RunStore.create(tmp_path / name) as store:
            heads.append(store.append([record(failures)], samples.TIMING))
    assert heads[0] == heads[1]


@settings(max_examples=25)
@given(length=st.integers(0, 40), start=st.integers(0, 50), limit=st.none() | st.integers(0, 50))
def test_a_slice_of_entries_is_a_slice(tmp_path_factory, length, start, limit):
    path = tmp_path_factory.mktemp("runs") / "run"
    records = samples.cycles(range(length))
    with RunStore.create(path) as store:
        store.append(records, samples.TIMING)
        end = None if limit is None else start + limit
        assert [entry.record for entry in store.entries(start, limit)] == records[start:end]


def test_many_entries_are_read_in_pages(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.append(samples.cycles(range(9000)), samples.TIMING)
        assert [entry.seq for entry in store.entries()] == list(range(9000))
        assert [entry.seq for entry in store.entries(4000, 4500)] == list(range(4000, 8500))


def test_a_batch_is_one_commit(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        head = store.batch(
            samples.cycles([1]), samples.TIMING, puts=[("snapshot", "000001", b"state")], blobs=[b"source"]
        )
        assert head == store.head()
        assert store.get("snapshot", "000001") == b"state"
        with pytest.raises(UsageError, match="table key"):
            store.batch(
                samples.cycles([2]), samples.TIMING, puts=[("snapshot", "x" * 600, b"")], blobs=[b"no"]
            )
        assert (len(store), store.head()) == (1, head)


def test_tables_scan_by_prefix_and_from_the_end(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        for key in ("b/1", "a/2", "a/1"):
            store.put("rows", key, key.encode())
        store.put("rows2", "a/0", b"other")
        assert store.scan("rows") == [("a/1", b"a/1"), ("a/2", b"a/2"), ("b/1", b"b/1")]
        assert [key for key, _ in store.scan("rows", "a/")] == ["a/1", "a/2"]
        assert [key for key, _ in store.scan("rows", limit=1, reverse=True)] == ["b/1"]
        store.delete("rows", "a/1")
        assert store.get("rows", "a/1") is None


def test_a_blob_is_found_by_its_hash(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        hash = store.put_blob(b"x" * 100_000)
        assert store.put_blob(b"x" * 100_000) == hash
        assert store.blob(hash) == b"x" * 100_000
        with pytest.raises(StoreError, match="no blob 0000"):
            store.blob("0" * 64)


def test_a_reader_in_the_same_process_follows_the_writer(tmp_path):
    with RunStore.create(tmp_path / "run") as store, RunStore.open(tmp_path / "run") as reader:
        for number in range(5):
            store.append(samples.cycles([number]), samples.TIMING)
            assert len(reader) == number + 1
        with pytest.raises(StoreError, match="reading only"):
            reader.append(samples.cycles([9]), samples.TIMING)


def test_who_closes_a_store_waits_for_those_who_read(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.append([samples.started(), *samples.cycles(range(200))], samples.TIMING)
    for _ in range(20):
        store, reading = RunStore.open(tmp_path / "run"), threading.Barrier(3)
        ends: list[str] = []

        def read_on(store=store, reading=reading, ends=ends):
            reading.wait()
            try:
                while True:
                    store.verify()
            except StoreError as error:
                ends.append(str(error))

        threads = [threading.Thread(target=read_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        reading.wait()
        store.verify()
        store.close()
        for thread in threads:
            thread.join()
        assert len(ends) == 2 and all("was closed" in end for end in ends)


def test_a_closed_store_says_so(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.head()


def test_the_status_follows_the_state_while_the_writer_lives(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        assert read(store).status == "running"
        for status in ("running", "paused", "failed", "finished"):
            store.set_state(samples.state(status))
            assert read(store).status == status


@pytest.mark.parametrize(
    ("said", "ended", "status"),
    [
        ("running", False, "stopped"),
        ("paused", False, "paused"),
        ("stopped", False, "stopped"),
        ("failed", False, "failed"),
        (None, False, "stopped"),
        ("running", True, "finished"),
        (None, True, "finished"),
    ],
)
def test_without_a_writer_the_journal_decides(tmp_path, said, ended, status):
    with RunStore.create(tmp_path / "run") as store:
        store.append([samples.started(), *([samples.finished()] if ended else [])], samples.TIMING)
        if said:
            store.set_state(samples.state(said))
    with RunStore.open(tmp_path / "run") as reader:
        assert not reader.writer_alive()
        assert read(reader).status == status


def test_a_long_error_is_cut_to_fit(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.set_state(samples.state("failed", error="ä" * 50_000, stage="x" * 50_000))
        kept = store.state()
        assert kept is not None and kept.error is not None
        assert set(kept.error) == {"ä"}


def test_runs_are_listed_by_path(tmp_path):
    for name in ("b", "a", "group/c"):
        RunStore.create(tmp_path / name).close()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "data.mdb").write_bytes(b"")
    assert list_runs(tmp_path) == [tmp_path / name for name in ("a", "b", "group/c")]
    assert list_runs(tmp_path / "a") == [tmp_path / "a"]
    with pytest.raises(UsageError, match="no folder"):
        list_runs(tmp_path / "nowhere")


def test_an_entry_keeps_its_hash_as_text(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.append(samples.cycles([1]), samples.TIMING)
        entry = store.entries()[0]
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
    assert len(entry.hash) == 64


def test_the_walls_of_every_session_are_told_and_the_weakest_counts(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        assert store.sandbox() is None
        store.set_sandbox(Sandbox(layers=["landlock", "seccomp", "limits"], missing=[]))
        store.append([samples.started()], samples.TIMING)
        store.set_sandbox(Sandbox(layers=["seccomp", "limits"], missing=["landlock"]))
        assert store.sandbox() == Sandbox(layers=["seccomp", "limits"], missing=["landlock"])
        assert len(store) == 1
