"""The seal of a finished run: what it covers, and who takes it off."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.records import RunFinished, Timing

FINISHED = RunFinished(cycles=0, champion="v0000", seal=seal.DIGEST)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    with RunStore.create(path) as store:
        store.weights_dir.mkdir()
        (store.weights_dir / "a.safetensors").write_bytes(b"weights")
        (path / "run.toml").write_text("cycles = 0\n", encoding="utf-8")
        store.append([FINISHED], Timing(at=0.0))
        seal.write(store)
    return path


def test_a_seal_names_every_file_but_the_locks(sealed: Path) -> None:
    assert seal.files(sealed) == ["journal/data.mdb", "journal/state", "run.toml", "weights/a.safetensors"]
    assert {path.name for path in (sealed / "journal").iterdir()} - {"data.mdb", "state"} == {
        "lock.mdb",
        "writer.lock",
    }


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")
def test_a_seal_is_read_by_sha256sum(sealed: Path) -> None:
    command = ["sha256sum", "--check", "--strict", seal.SEAL]
    assert subprocess.run(command, cwd=sealed, capture_output=True, check=False).returncode == 0
    (sealed / "run.toml").write_text("cycles = 1\n", encoding="utf-8")
    assert subprocess.run(command, cwd=sealed, capture_output=True, check=False).returncode == 1


def test_reading_leaves_a_seal_as_it_is(sealed: Path) -> None:
    before = (sealed / seal.SEAL).read_bytes()
    with RunStore.open(sealed) as store:
        assert len(store.entries()) == store.verify() == 1
    with RunStore.open(sealed, write=True) as store:
        assert store.head() in before.decode()
        seal.write(store)
    assert (sealed / seal.SEAL).read_bytes() == before


@pytest.mark.parametrize("change", ["record", "row", "blob", "deletion"])
def test_whatever_writes_takes_the_seal_off(change: str, sealed: Path) -> None:
    with RunStore.open(sealed, write=True) as store:
        assert seal.is_sealed(sealed)
        match change:
            case "record":
                store.append([FINISHED], Timing(at=1.0))
            case "row":
                store.put("table", "key", b"value")
            case "blob":
                store.put_blob(b"blob")
            case _:
                store.delete("table", "key")
        assert not seal.is_sealed(sealed)
