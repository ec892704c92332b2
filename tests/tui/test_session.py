"""Sessions over real stores: what becomes of folders under the screens, and what is asked of runs."""

import math
import os
import shutil
from pathlib import Path

import msgspec
import pytest
import synthetic_run as synthetic
from tui_harness import read_all, session_over

from moevolve.errors import MoevolveError, SchemaError, UsageError
from moevolve.journal.control import Inbox
from moevolve.journal.drawing.lines import text_of
from moevolve.journal.store import RunStore
from moevolve.records import Evaluated, Interval, Record, RunStarted, Timing
from moevolve_tui import controls
from moevolve_tui.attach import session_of
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.model import CHUNK, RunModel
from moevolve_tui.replay import Replay
from moevolve_tui.session import Session, open_run

RECORDS = list(synthetic.records())


def run_in(folder: Path, count: int = 5, *, name: str = "first") -> Path:
    first = RECORDS[0]
    assert isinstance(first, RunStarted)
    records: list[Record] = [msgspec.structs.replace(first, run=name), *RECORDS[1:count]]
    with RunStore.create(folder) as store:
        store.append(records, Timing(at=1.0))
    return folder


def write_more(folder: Path, records: list[Record]) -> None:
    with RunStore.open(folder, write=True) as store:
        store.append(records, Timing(at=2.0))


def replaced(folder: Path, by: Path) -> None:
    """Puts another folder where one lay."""
    shutil.rmtree(folder)
    by.rename(folder)


def current(session: Session) -> RunModel:
    read_all(session)
    assert session.current is not None
    return session.current


def test_a_named_run_is_looked_at_and_its_neighbours_are_listed(tmp_path: Path) -> None:
    run_in(tmp_path / "a")
    run_in(tmp_path / "b", name="second")
    session = session_of([tmp_path / "a"], tmp_path, wait=False)
    assert current(session).run == "first"
    assert {model.run for model in session.runs} == {"first", "second"}


def test_without_a_name_the_newest_run_is_looked_at_and_newer_ones_appear(tmp_path: Path) -> None:
    for index, name in enumerate(("b", "a")):
        run = run_in(tmp_path / name, name=name)
        os.utime(run / "journal" / "data.mdb", (1000 + index, 1000 + index))
    session = session_of([], tmp_path, wait=False)
    assert current(session).run == "a"
    run_in(tmp_path / "c", name="c")
    session.scan()
    assert current(session).run == "c"
    session.look(session.runs[0])
    run_in(tmp_path / "d", name="d")
    session.scan()
    assert current(session).run == "b" and len(session.runs) == 4


def test_a_folder_of_runs_is_watched_whole(tmp_path: Path) -> None:
    run_in(tmp_path / "runs" / "a")
    session = session_of([tmp_path / "runs"], tmp_path, wait=False)
    assert [model.path.name for model in session.runs] == ["a"]


def test_no_runs_at_all_is_an_empty_list(tmp_path: Path) -> None:
    session = session_of([], tmp_path / "runs", wait=False)
    assert session.runs == [] and session.current is None


def test_a_missing_folder_is_refused_unless_told_to_wait(tmp_path: Path) -> None:
    missing = tmp_path / "later"
    with pytest.raises(UsageError, match="there is no folder"):
        session_of([missing], tmp_path, wait=False)
    session = session_of([missing], tmp_path, wait=True)
    assert current(session).status == "waiting"
    run_in(missing)
    assert current(session).run == "first"


def test_an_alien_folder_a_file_and_a_newer_schema_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("not a run")
    with pytest.raises(MoevolveError) as refused:
        session_of([tmp_path], tmp_path, wait=False)
    assert refused.value.exit_code == 2
    with pytest.raises(UsageError, match="is a file"):
        session_of([tmp_path / "notes.txt"], tmp_path, wait=False)
    with monkeypatch.context() as future:
        future.setattr("moevolve.journal.store.SCHEMA_VERSION", 9)
        run_in(tmp_path / "a")
    with pytest.raises(SchemaError):
        session_of([tmp_path / "a"], tmp_path, wait=False)


def test_a_deleted_folder_is_said_and_what_was_read_stays(tmp_path: Path) -> None:
    session = session_of([run_in(tmp_path / "a")], tmp_path, wait=False)
    model = current(session)
    shutil.rmtree(tmp_path / "a")
    read_all(session)
    assert model.status == "deleted" and "deleted" in model.notice
    assert model.entries == 5 and model.run == "first"
    with pytest.raises(controls.Refused):
        controls.ask(model, "stop")


def test_another_run_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    session = session_of([run_in(tmp_path / "a")], tmp_path, wait=False)
    model = current(session)
    replaced(tmp_path / "a", run_in(tmp_path / "b", 3, name="second"))
    read_all(session)
    assert (model.run, model.entries) == ("second", 3)
    assert "Another run" in model.notice


def test_the_same_run_moved_away_and_back_goes_on(tmp_path: Path) -> None:
    session = session_of([run_in(tmp_path / "a")], tmp_path, wait=False)
    model = current(session)
    (tmp_path / "a").rename(tmp_path / "aside")
    read_all(session)
    assert model.status == "deleted"
    shutil.copytree(tmp_path / "aside", tmp_path / "b")
    write_more(tmp_path / "b", RECORDS[5:8])
    (tmp_path / "b").rename(tmp_path / "a")
    read_all(session)
    assert model.entries == 8 and model.notice == "" and model.status == "stopped"


def test_a_torn_journal_is_a_sentence_and_no_crash(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a")
    session = session_of([run], tmp_path, wait=False)
    model = current(session)
    shutil.rmtree(run)
    (run / "journal").mkdir(parents=True)
    (run / "journal" / "data.mdb").write_bytes(b"half a page" * 100)
    read_all(session)
    assert "cannot be read just now" in model.fault and model.entries == 5


@pytest.mark.parametrize("length", [0, 100, 8192, 40_000])
def test_a_journal_cut_under_the_screens_is_a_sentence_and_read_on_once_it_is_whole(
    tmp_path: Path, length: int
) -> None:
    run = run_in(tmp_path / "a", 60)
    session = session_of([run], tmp_path, wait=False)
    model = current(session)
    file = run / "journal" / "data.mdb"
    whole = file.read_bytes()
    os.truncate(file, length)
    read_all(session)
    assert "cannot be read just now" in model.fault and f"cut to {length} bytes" in model.fault
    # What was read stays, and what was not is said to be gone.
    assert model.entries == 60 and model.entry(3) is None
    assert "cannot be read any more" in model.line(3).text
    told = "\n".join(text_of(each) for each in heading_lines(model, 0.0, 100))
    assert "resume" not in told and "damaged" in told
    with file.open("r+b") as again:
        again.write(whole)
    read_all(session)
    assert model.fault == "" and model.entry(3) is not None


def test_a_newer_schema_under_the_screens_ends_reading_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "a")
    session = session_of([run], tmp_path, wait=False)
    model = current(session)
    with monkeypatch.context() as future:
        future.setattr("moevolve.journal.store.SCHEMA_VERSION", 9)
        newer = run_in(tmp_path / "b")
    replaced(run, newer)
    read_all(session)
    assert model.hopeless and "newer" in model.fault


def test_a_killed_writer_is_stopped_and_goes_on_in_the_same_screens(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a", 10)
    session = session_of([run], tmp_path, wait=False)
    model = current(session)
    assert model.status == "stopped"
    with RunStore.open(run, write=True) as store:
        store.set_state(synthetic.state_at(10))
        read_all(session)
        assert model.status == "running"
    read_all(session)
    assert model.status == "stopped"
    write_more(run, RECORDS[10:20])
    read_all(session)
    assert model.entries == 20


def test_numbers_that_are_none_reach_no_axis_and_no_sentence(tmp_path: Path) -> None:
    nan = Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
    record = next(each for each in RECORDS if isinstance(each, Evaluated))
    run = synthetic.recorded(20)
    entry = run.written[2]
    run.written[2] = msgspec.structs.replace(entry, record=msgspec.structs.replace(record, score=nan))
    run.said = msgspec.structs.replace(synthetic.state_at(20), done=math.nan, seconds=-1e300, eta=math.inf)
    from tui_harness import context_over

    from moevolve_tui.screens import SCREENS

    context = context_over(run)
    for page in SCREENS:
        made = page(context)
        for size in ((77, 20), (178, 46)):
            made.prepare(*size)
    assert context.model is not None
    heading_lines(context.model, math.inf, 80)


def test_a_long_journal_is_read_in_pieces_and_says_so() -> None:
    run = synthetic.recorded()
    run.written = run.written * 20
    session = session_over(run)
    changed, more = session.step()
    model = session.current
    assert changed and more and model is not None
    assert model.entries == CHUNK and model.loading
    assert current(session).entries == len(run.written) and not model.loading


def test_requests_are_those_of_the_commands(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a", 10)
    session = session_of([run], tmp_path, wait=False)
    model = current(session)
    with pytest.raises(controls.Refused, match="resume"):
        controls.ask(model, "pause")
    with RunStore.open(run, write=True) as store:
        store.set_state(synthetic.state_at(10))
        read_all(session)
        assert controls.ask(model, "pause") == 1
        assert controls.ask(model, "stop") == 2
    found = Inbox(run).next(0)
    assert found is not None and (found[0], found[1].command) == (1, "pause")
    with pytest.raises(controls.Refused, match="v0009 does not wait"):
        controls.ask(model, "approve", "v0009")


def test_a_replay_stands_where_the_run_stood(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a", 60)
    session = session_of([run], tmp_path, wait=False)
    replay = Replay(current(session))
    for place in (1, 30, 60, 12):
        replay.seek(place)
        session.replay = replay.model
        read_all(session)
        assert replay.model.entries == place
        whole = RunModel(tmp_path / "a", lambda path: session.current.folder, until=place)  # type: ignore[union-attr, arg-type, return-value]
        whole.advance()
        assert whole.view.champion == replay.model.view.champion
    assert not replay.aim("nonsense") and not replay.aim("c99") and replay.aim("50%")
    assert replay.position == 30


def test_opening_reads_and_never_writes(tmp_path: Path) -> None:
    run = run_in(tmp_path / "a")
    before = sorted(path.name for path in run.rglob("*"))
    current(session_of([run], tmp_path, wait=False))
    open_run(run).close()
    assert sorted(path.name for path in run.rglob("*")) == before
