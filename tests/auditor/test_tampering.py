"""Tampering: single bytes of every file of a run, whole files, and what is written after the end."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import lmdb
import pytest

from moevolve.auditor import audit
from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.records import Timing, VariantAdded

Copy = Callable[[], Path]


def flipped(file: Path, place: int, draw: Random) -> bytes:
    """Changes one byte; returns what the file was."""
    whole = file.read_bytes()
    data = bytearray(whole)
    data[place] ^= 1 + draw.randrange(255)
    file.write_bytes(data)
    return whole


def missed(run: Path, files: Sequence[Path], count: int, seed: int) -> list[str]:
    """Changes one byte after another; returns those that an audit does not find."""
    draw = Random(seed)
    quiet = []
    for _ in range(count):
        file = draw.choice(files)
        place = draw.randrange(file.stat().st_size)
        whole = flipped(file, place, draw)
        if audit(run).ok:
            quiet.append(f"{file.relative_to(run)} at {place}")
        file.write_bytes(whole)
    return quiet


def test_a_finished_run_is_clean(finished: Path) -> None:
    report = audit(finished)
    assert report.ok and report.complete and report.state == "finished", report.findings
    assert report.findings == []
    assert report.seal.present and report.seal.intact


@pytest.mark.long
def test_200_single_bytes_of_journal_blobs_and_weights_are_found(copy: Copy) -> None:
    run = copy()
    journal = [run / "journal" / "data.mdb"]
    assert missed(run, journal, 100, seed=1) == []
    assert missed(run, sorted((run / "weights").iterdir()), 60, seed=2) == []
    with RunStore.open(run) as store:
        programs = {e.record.program for e in store.entries() if isinstance(e.record, VariantAdded)}
        blobs = [store.blob(name) for name in sorted(programs)]
    draw = Random(3)
    for _ in range(40):
        blob = draw.choice(blobs)
        whole = journal[0].read_bytes()
        # The long ones lie on pages of their own, in one piece.
        start = whole.find(blob[:200])
        flipped(journal[0], start + draw.randrange(200), draw)
        found = audit(run)
        assert found.seal.intact is False and found.exit_code == 1
        journal[0].write_bytes(whole)
    assert audit(run).ok


def test_single_bytes_of_every_other_file_are_found(copy: Copy) -> None:
    run = copy()
    files = [run / name for name in seal.files(run) if not name.startswith(("weights", "journal/data"))]
    assert len(files) >= 5
    assert missed(run, files, 60, seed=4) == []


def test_lock_files_hold_nothing_that_readers_do_not_put_there(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run) as store:
        assert len(store) and audit(run).ok
    locks = run / "journal" / "lock.mdb"
    draw = Random(8)
    for _ in range(20):
        whole = flipped(locks, draw.randrange(72 * 64, locks.stat().st_size), draw)
        assert not audit(run).ok
        locks.write_bytes(whole)
    (run / "journal" / "writer.lock").write_bytes(b"12x       \n")
    assert not audit(run).ok


def test_no_byte_of_the_seal_can_be_changed(copy: Copy) -> None:
    run = copy()
    assert missed(run, [run / seal.SEAL], 100, seed=5) == []


def test_without_a_seal_records_blobs_and_weights_are_still_covered(copy: Copy, interrupted: Path) -> None:
    """Of a run that was killed: bytes of entries and blobs, by their hashes, wherever they lie."""
    report = audit(interrupted)
    assert report.ok and not report.complete and report.state == "unfinished", report.findings
    file = interrupted / "journal" / "data.mdb"
    with lmdb.open(str(file.parent), readonly=True, lock=False, max_dbs=8) as environment:
        values = []
        for name in (b"journal", b"blobs"):
            database = environment.open_db(name, create=False)
            with environment.begin(db=database) as transaction:
                values += [bytes(value) for _, value in transaction.cursor()]
    draw = Random(6)
    for _ in range(60):
        value = draw.choice(values)
        at = draw.randrange(len(value))
        if value[:32] and 32 <= at < 36 + int.from_bytes(value[32:36], "little") and len(value) < 4000:
            # A timing lies beside the chain.
            continue
        whole = file.read_bytes()
        start = whole.find(value[:300])
        while start >= 0:
            if at < 300:
                data = bytearray(file.read_bytes())
                data[start + at] ^= 0x55
                file.write_bytes(data)
            start = whole.find(value[:300], start + 1)
        assert at >= 300 or not audit(interrupted).ok
        file.write_bytes(whole)
    [weights, *_] = sorted((interrupted / "weights").glob("*.safetensors"))
    for _ in range(10):
        whole = flipped(weights, draw.randrange(weights.stat().st_size), draw)
        assert not audit(interrupted).ok
        weights.write_bytes(whole)


@pytest.mark.parametrize(
    "name",
    ["run.toml", "program/solve.py", "SEAL", "weights", "journal/state"],
)
def test_a_missing_file_is_found(name: str, copy: Copy) -> None:
    run = copy()
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert not audit(run).ok


@pytest.mark.parametrize("name", ["weights/other.safetensors", "program/helper.py", "journal/data.mdb.old"])
def test_a_file_too_many_is_found(name: str, copy: Copy) -> None:
    run = copy()
    (run / name).write_bytes(b"x")
    assert not audit(run).ok


def test_readers_and_a_resume_leave_a_run_clean(copy: Copy) -> None:
    from moevolve.loop.run import resume
    from moevolve.report.optimisation import figures_of

    run = copy()
    with RunStore.open(run) as store:
        figures_of(store)
    resume(run)
    assert audit(run).ok


def test_whoever_goes_on_with_a_run_breaks_its_seal(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run, write=True) as store:
        store.put("notes", "a", b"b")
    report = audit(run)
    assert not report.seal.present
    assert {finding.check for finding in report.findings if finding.kind == "mismatch"} == {"seal"}


def test_records_after_the_end_are_found(copy: Copy) -> None:
    run = copy()
    with RunStore.open(run, write=True) as store:
        last = store.entries(len(store) - 1)[0].record
        store.append([last], Timing(at=99.0))
        seal.write(store)
    assert not audit(run).ok


def test_a_seal_written_again_hides_no_change_of_a_record(copy: Copy) -> None:
    run = copy()
    file = run / "journal" / "data.mdb"
    data = bytearray(file.read_bytes())
    place = data.rfind(b"run_finished")
    data[place] ^= 1
    file.write_bytes(data)
    text = (run / seal.SEAL).read_text()
    old = next(line for line in text.splitlines() if line.endswith("journal/data.mdb"))
    text = text.replace(old, f"{hashlib.sha256(data).hexdigest()}  journal/data.mdb")
    body = text[: text.rindex("# seal ")]
    (run / seal.SEAL).write_text(f"{body}# seal {hashlib.sha256(body.encode()).hexdigest()}\n")
    report = audit(run)
    assert report.seal.intact and not report.ok
