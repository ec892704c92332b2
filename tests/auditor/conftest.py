"""A finished run of the loop at its smallest size, and copies of it to tamper with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moevolve.config import Config
from moevolve.journal import seal
from moevolve.journal.store import RunStore
from moevolve.loop.run import start
from moevolve.records import Entry, Record, Timing

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

Copy = Callable[[], Path]
Forge = Callable[[Callable[[list[Record]], list[Record]]], Path]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(Config.load("small").override(seed=3), tmp_path_factory.mktemp("audit") / "run")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Copy:
    """Copies the finished run."""
    return lambda: Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run that ended somewhere in its second cycle."""

    def stop(entry: Entry) -> None:
        if entry.seq == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(Config.load("small").override(seed=3), tmp_path / "interrupted", stop)
    return tmp_path / "interrupted"


@pytest.fixture
def forge(finished: Path, tmp_path: Path) -> Forge:
    """Writes the finished run once more with other records: an attacker who knows every format and recomputes every hash."""

    def write(change: Callable[[list[Record]], list[Record]]) -> Path:
        path = tmp_path / "forged"
        with RunStore.open(finished) as source, RunStore.create(path) as store:
            entries = source.entries()
            for name in ("weights", "program"):
                shutil.copytree(finished / name, path / name)
            shutil.copyfile(finished / "run.toml", path / "run.toml")
            for entry in entries:
                for name in ("program", "behaviour"):
                    if (held := getattr(entry.record, name, None)) and hasattr(entry.record, "variant"):
                        store.put_blob(source.blob(held))
            store.append(change([entry.record for entry in entries]), Timing(at=1.0))
            store.set_state(source.state())  # type: ignore[arg-type]
            seal.write(store)
        return path

    return write
