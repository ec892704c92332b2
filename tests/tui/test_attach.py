import os
from pathlib import Path

import pytest
import synthetic_run as synthetic

from moevolve.errors import MoevolveError, SchemaError, UsageError
from moevolve.records import Timing

pytest.importorskip("moevolve.journal.store")

from moevolve.journal.store import RunStore
from moevolve_tui import attach
from moevolve_tui.reader import Reader

RECORDS = list(synthetic.records())


def run_in(folder: Path, count: int = 5) -> Path:
    with RunStore.create(folder) as store:
        store.append(RECORDS[:count], Timing(at=1.0))
    return folder


def test_a_named_run_is_found_at_once(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a")
    assert attach.locate(run, tmp_path, wait=False)() == run


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    for index, name in enumerate(("b", "a", "c")):
        run = run_in(tmp_path / name)
        for file in (run / "journal").iterdir():
            os.utime(file, (1000 + index, 1000 + index))
    assert attach.locate(None, tmp_path, wait=False)() == tmp_path / "c"


def test_a_missing_folder_is_refused_unless_told_to_wait(tmp_path: Path) -> None:
    missing = tmp_path / "later"
    with pytest.raises(UsageError, match="there is no folder"):
        attach.locate(missing, tmp_path, wait=False)
    found = attach.locate(missing, tmp_path, wait=True)
    assert found() is None
    run_in(missing)
    assert found() == missing


def test_an_empty_folder_is_a_run_that_starts_later(tmp_path: Path) -> None:
    folder = tmp_path / "soon"
    folder.mkdir()
    found = attach.locate(folder, tmp_path, wait=False)
    reader = Reader(found, attach.open_run)
    assert reader.poll() is None
    (folder / "run.toml").write_text("seed = 1\n")
    assert reader.poll() is None
    (folder / "run.toml").unlink()
    folder.rmdir()
    run_in(folder, 4)
    news = reader.poll()
    assert news is not None and [record for _, record, _ in news.records] == RECORDS[:4]


def test_no_runs_at_all_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="moevolve run quickstart"):
        attach.locate(None, tmp_path / "runs", wait=False)


def test_an_alien_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a run")
    with pytest.raises(MoevolveError) as refused:
        attach.locate(tmp_path, tmp_path, wait=False)
    assert refused.value.exit_code == 2
    with pytest.raises(UsageError, match="is a file"):
        attach.locate(tmp_path / "notes.txt", tmp_path, wait=False)


def test_a_run_of_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as future:
        future.setattr("moevolve.journal.store.SCHEMA_VERSION", 9)
        run_in(tmp_path / "a")
    with pytest.raises(SchemaError) as refused:
        attach.locate(tmp_path / "a", tmp_path, wait=False)
    assert refused.value.exit_code == 2


def test_main_says_why_and_returns_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moevolve_tui import app

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert app.main(tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.startswith("moevolve watch: there is no folder")


def test_a_journal_that_is_just_being_made_is_left_to_the_reader(tmp_path: Path) -> None:
    journal = tmp_path / "run" / "journal"
    journal.mkdir(parents=True)
    (journal / "data.mdb").write_bytes(b"half a page")
    found = attach.locate(tmp_path / "run", tmp_path, wait=False)
    assert found() == tmp_path / "run"
    os.utime(journal / "data.mdb", (1000, 1000))
    with pytest.raises(MoevolveError):
        attach.locate(tmp_path / "run", tmp_path, wait=False)
