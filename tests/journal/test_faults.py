"""Real faults: killed writers, a full disk, damaged files, forks. One message names the thing and the way out."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import store_samples as samples

from moevolve import _native
from moevolve.errors import SchemaError, StorageFullError, StoreBusyError, StoreError, UsageError
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.records import SCHEMA_VERSION

HERE = str(Path(__file__).parent)


def test_a_second_writer_is_told_the_pid_of_the_first_and_may_read(tmp_path):
    writer = samples.start_writer(tmp_path / "run", entries=3)
    try:
        with pytest.raises(StoreBusyError, match=f"process {writer.pid}") as busy:
            RunStore.open(tmp_path / "run", write=True)
        assert busy.value.exit_code == 2
        with RunStore.open(tmp_path / "run") as reader:
            assert (len(reader), reader.writer_alive(), read(reader).status) == (3, True, "running")
            state = reader.state()
            assert state is not None and state.pid == writer.pid
    finally:
        writer.communicate("")


def test_a_killed_writer_leaves_its_records_and_a_free_lock(tmp_path):
    writer = samples.start_writer(tmp_path / "run", entries=3)
    reader = RunStore.open(tmp_path / "run")
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert (reader.writer_alive(), read(reader).status, reader.verify()) == (False, "stopped", 3)
    with RunStore.open(tmp_path / "run", write=True) as store:
        store.append(samples.cycles([3]), samples.TIMING)
        assert read(reader).status == "running"
    assert reader.verify() == 4
    reader.close()


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import resource
import store_samples as samples
from moevolve.errors import StorageFullError
from moevolve.records import VariantAdded
from moevolve.journal.store import RunStore

store = RunStore.create(Path(sys.argv[1]))
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
count = 0
try:
    while True:
        store.append(samples.cycles(range(count, count + 20)), samples.TIMING)
        count += 20
        store.put_blob(bytes(20_000) + str(count).encode())
except StorageFullError as error:
    print(error, file=sys.stderr)
    store.set_state(samples.state("failed", error=str(error)))
assert store.verify() == count == len(store.entries())
with RunStore.open(Path(sys.argv[1])) as reader:
    assert len(reader) == count
    assert reader.state().status == "failed"
print(count)
"""


def filled(path, *limit, inside=()):
    command = [*inside, sys.executable, "-c", FILL, str(path), HERE, *limit]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_limit_on_file_size_is_a_full_disk_and_nothing_is_lost(tmp_path):
    done = filled(tmp_path / "run", str(600_000))
    assert done.returncode == 0, done.stderr
    assert "everything committed before is intact" in done.stderr
    assert str(tmp_path / "run") in done.stderr
    count = int(done.stdout)
    assert count > 0
    with RunStore.open(tmp_path / "run", write=True) as store:
        assert store.verify() == count
        state = store.state()
        assert state is not None and state.error is not None
        assert state.error.startswith(str(tmp_path / "run"))
        store.append(samples.cycles([1]), samples.TIMING)


def test_a_disk_without_space_is_said_and_everything_stays_readable(tmp_path):
    unshare = shutil.which("unshare")
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    inside = [str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path)]
    if unshare is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    done = filled(tmp_path / "run", inside=inside)
    assert done.returncode == 0, done.stderr
    assert "no space left" in done.stderr
    assert int(done.stdout) > 0


def test_a_full_map_names_the_way_out(tmp_path):
    with RunStore.create(tmp_path / "run", map_size=1 << 20) as store:
        with pytest.raises(StorageFullError, match="larger map size") as full:
            while True:
                store.append(samples.cycles(range(1000)), samples.TIMING)
        assert full.value.exit_code == 1
        count = store.verify()
        assert count == len(store.entries()) > 0
    with RunStore.open(tmp_path / "run", write=True) as store:
        store.append(samples.cycles([1]), samples.TIMING)
        assert store.verify() == count + 1


def test_a_newer_schema_is_refused_with_both_versions(tmp_path):
    _native.RunStore.create(tmp_path / "run", SCHEMA_VERSION + 3).close()
    with pytest.raises(SchemaError) as newer:
        RunStore.open(tmp_path / "run")
    text = str(newer.value)
    assert newer.value.exit_code == 2
    assert f"schema {SCHEMA_VERSION + 3}" in text and f"up to {SCHEMA_VERSION}" in text
    assert str(tmp_path / "run") in text and "newer Moevolve" in text


def test_what_is_no_run_is_named_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match=str(path)):
            RunStore.open(path, write=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_a_folder_with_a_run_takes_no_second_one(tmp_path):
    RunStore.create(tmp_path / "run").close()
    with pytest.raises(UsageError, match="already holds a run"):
        RunStore.create(tmp_path / "run")


@pytest.mark.parametrize("kept", [0.75, 0.4, 0.1, 0.001])
def test_a_torn_file_is_named(tmp_path, kept):
    with RunStore.create(tmp_path / "run") as store:
        for number in range(30):
            store.append(samples.cycles([number] * 20), samples.TIMING)
            store.put_blob(bytes(5000) + bytes([number]))
    data = tmp_path / "run" / "journal" / "data.mdb"
    os.truncate(data, int(data.stat().st_size * kept))
    for write in (False, True):
        with pytest.raises(StoreError, match=f"{data} is damaged"):
            RunStore.open(tmp_path / "run", write=write)


def test_an_alien_file_is_named(tmp_path):
    journal = tmp_path / "run" / "journal"
    journal.mkdir(parents=True)
    (journal / "data.mdb").write_bytes(b"SQLite format 3" * 1000)
    with pytest.raises(StoreError, match="not an LMDB file"):
        RunStore.open(tmp_path / "run")
    assert [path.name for path in journal.iterdir()] == ["data.mdb"]


def test_a_changed_record_is_found_and_numbered(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.append(samples.cycles(range(100)), samples.TIMING)
    data = tmp_path / "run" / "journal" / "data.mdb"
    bytes_on_disk = data.read_bytes()
    assert bytes_on_disk.count(b"v57") == 1
    data.write_bytes(bytes_on_disk.replace(b"v57", b"v58"))
    with RunStore.open(tmp_path / "run") as store, pytest.raises(StoreError, match="broken at entry 57"):
        store.verify()


def test_a_fork_is_told_to_open_anew(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.append(samples.cycles([1]), samples.TIMING)
    child = os.fork()
    if child == 0:
        told = 0
        for attempt in (
            store.head,
            lambda: RunStore.open(tmp_path / "run"),
            lambda: store.append([], samples.TIMING),
        ):
            try:
                attempt()
            except StoreError as error:
                told += "spawned process" in str(error)
        os._exit(told)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    store.append(samples.cycles([2]), samples.TIMING)
    store.close()
    with RunStore.open(tmp_path / "run", write=True) as again:
        assert again.verify() == 2


def test_a_closed_run_can_be_inspected_by_another_lmdb(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    with RunStore.create(tmp_path / "run") as store:
        store.append(samples.cycles(range(7)), samples.TIMING)
    folder = str(tmp_path / "run" / "journal")
    with lmdb.open(folder, readonly=True, lock=False, max_dbs=8) as environment:
        meta, journal = environment.open_db(b"meta"), environment.open_db(b"journal")
        with environment.begin() as transaction:
            assert transaction.get(b"schema", db=meta) == SCHEMA_VERSION.to_bytes(4, "little")
            assert transaction.get(b"kind", db=meta) == b"run"
            keys = [key for key, _ in transaction.cursor(db=journal)]
    assert keys == [seq.to_bytes(8, "big") for seq in range(7)]


def test_a_small_address_space_is_an_error_not_a_crash(tmp_path):
    RunStore.create(tmp_path / "run").close()
    script = f"""
import resource
from pathlib import Path
from moevolve.errors import StoreError
from moevolve.journal.store import RunStore
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    RunStore.open(Path({str(tmp_path / "run")!r}))
except StoreError as error:
    print(error)
print(len(RunStore.open(Path({str(tmp_path / "run")!r}), map_size=1 << 30)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "address space" in done.stdout and done.stdout.endswith("\n0\n")
