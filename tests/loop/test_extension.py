"""A run that is made longer: after its end, between two cycles, in the middle of one, killed on the way, done again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from moevolve.auditor.run import audit
from moevolve.config import Config
from moevolve.errors import ConfigError, UsageError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import limits
from moevolve.loop.limits import Extension
from moevolve.loop.run import replay, resume, start
from moevolve.loop.settings import SETTINGS
from moevolve.records import (
    Controlled,
    CycleFinished,
    CycleStarted,
    Entry,
    Evaluated,
    Gated,
    Guarded,
    Record,
    RunExtended,
    RunFinished,
    SealedOpened,
    Timing,
)

Kind = TypeVar("Kind")


def journal(path: Path) -> tuple[str, list[Record]]:
    with RunStore.open(path) as store:
        return store.head(), [entry.record for entry in store.entries()]


def of_kind(path: Path, kind: type[Kind]) -> list[Kind]:
    return [record for record in journal(path)[1] if isinstance(record, kind)]


def configuration(store: RunStore) -> Config:
    return Config.from_canonical(read(store).started.config)


def ended_at(record: int) -> Callable[[Entry], None]:
    """Ends a run like Ctrl-C once this record is on file."""

    def event(entry: Entry) -> None:
        if entry.seq >= record:
            raise KeyboardInterrupt

    return event


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config.load("small").override(seed=3, cycles=1)
    return start(config, tmp_path_factory.mktemp("extension") / "run")


@pytest.fixture(scope="module")
def longer(finished: Path) -> Path:
    """The finished run with one more cycle."""
    path = shutil.copytree(finished, finished.parent / "longer")
    return resume(path, more=Extension(cycles=1))


def test_a_finished_run_goes_on_after_its_records_and_is_scored_again(finished: Path, longer: Path) -> None:
    before, after = journal(finished)[1], journal(longer)[1]
    assert after[: len(before)] == before
    assert after[len(before)] == RunExtended(cycle=1, more_cycles=1, more_minutes=None, cycles=2)
    assert [record.cycle for record in of_kind(longer, CycleFinished)] == [1, 2]
    sealed = [record for record in of_kind(longer, Evaluated) if record.split == "sealed"]
    assert [record.when for record in sealed] == ["initial", "final", "final"]
    assert isinstance(after[-1], RunFinished) and after[-1].cycles == 2


def test_what_the_score_in_between_drew_is_counted(longer: Path) -> None:
    middle = of_kind(longer, Evaluated)[-3]
    assert middle.when == "final"
    drawn = [record.tokens_generated for record in of_kind(longer, CycleFinished)]
    with RunStore.open(longer) as store:
        view = read(store).view
    last = of_kind(longer, Evaluated)[-1]
    assert last.when == "final" and view.generated >= drawn[-1] + last.tokens
    assert drawn[-1] - drawn[0] >= middle.tokens


def test_readers_show_the_run_as_it_is_now(longer: Path) -> None:
    with RunStore.open(longer) as store:
        reader = read(store)
        assert (reader.status, reader.view.cycles, reader.view.planned) == ("finished", 2, 2)
        assert reader.view.extensions == 1


def test_a_longer_run_done_again_meets_its_head(longer: Path, tmp_path: Path) -> None:
    on_file, again = replay(longer, tmp_path / "scratch")
    assert on_file == again == journal(longer)[0]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_longer_run_that_is_ended_anywhere_goes_on_to_the_same_head(
    share: float, finished: Path, longer: Path, tmp_path: Path
) -> None:
    first, last = len(journal(finished)[1]), len(journal(longer)[1]) - 1
    path = shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        resume(path, ended_at(first + int(share * (last - first))), more=Extension(cycles=1))
    resume(path)
    assert journal(path)[0] == journal(longer)[0]


@pytest.mark.long
def test_an_extension_is_kept_though_the_run_is_ended_before_it_is_on_record(tmp_path: Path) -> None:
    config = Config.load("small").override(seed=3, cycles=1)
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(config, path, ended_at(8))
    assert of_kind(path, CycleStarted) and not of_kind(path, CycleFinished)
    with pytest.raises(KeyboardInterrupt):
        resume(path, ended_at(12), more=Extension(cycles=1))
    assert not of_kind(path, RunExtended)
    resume(path)
    assert of_kind(path, RunExtended) == [RunExtended(cycle=1, more_cycles=1, more_minutes=None, cycles=2)]
    assert [record.cycle for record in of_kind(path, CycleFinished)] == [1, 2]
    assert len(of_kind(path, RunFinished)) == 1
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


@pytest.mark.long
def test_extensions_add_up_wherever_they_were_asked_for(tmp_path: Path) -> None:
    moments = random.Random(5)
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(Config.load("small").override(seed=4, cycles=1), path, ended_at(0))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            resume(path, ended_at(len(journal(path)[1]) + moments.randrange(6)), more=Extension(cycles=1))
    resume(path)
    assert [record.cycles for record in of_kind(path, RunExtended)] == [2, 3]
    assert len(of_kind(path, CycleFinished)) == 3
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


@pytest.mark.long
@pytest.mark.parametrize("at", [CycleStarted, CycleFinished])
def test_a_run_that_a_person_stopped_goes_on_with_the_next_cycle(at: type, tmp_path: Path) -> None:
    path = tmp_path / "run"

    def ask(entry: Entry) -> None:
        if isinstance(entry.record, at):
            Inbox(path).put(Request(command="stop"), 0)

    start(Config.load("small").override(seed=3, cycles=3), path, ask)
    stopped = journal(path)[1]
    assert isinstance(stopped[-1], RunFinished)
    resume(path, more=Extension(cycles=1))
    after = journal(path)[1]
    assert after[: len(stopped)] == stopped
    assert after[len(stopped)] == RunExtended(cycle=1, more_cycles=1, more_minutes=None, cycles=2)
    assert [record.cycle for record in of_kind(path, CycleStarted)] == [1, 2]
    assert [record.cycle for record in of_kind(path, CycleFinished)] == (
        [2] if at is CycleStarted else [1, 2]
    )
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again
    assert audit(path).ok


@pytest.mark.long
def test_an_extension_that_was_asked_for_before_a_stop_is_not_granted_after_it(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(Config.load("small").override(seed=3, cycles=1), path, ended_at(8))
    Inbox(path).put(Request(command="stop"), 0)
    resume(path, more=Extension(cycles=5))
    assert isinstance(journal(path)[1][-1], RunFinished)
    assert not of_kind(path, RunExtended)
    resume(path)
    assert not of_kind(path, RunExtended)


@pytest.mark.long
def test_the_twin_of_a_longer_run_is_as_long(tmp_path: Path) -> None:
    path = tmp_path / "run"
    start(Config.load("small", {"guard.twin": True}).override(seed=3, cycles=0), path)
    resume(path, more=Extension(cycles=1))
    assert [record.cycle for record in of_kind(path / "twin", CycleFinished)] == [1]
    assert [record.cycle for record in of_kind(path, Guarded) if record.guard == "twin"] == [0, 1]
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


def test_an_audit_knows_extensions(longer: Path) -> None:
    found = audit(longer)
    assert found.ok, found


def test_minutes_take_the_number_of_cycles_away_and_count_from_the_extension(
    finished: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    with RunStore.open(path, write=True) as store:
        limits.ask(store, Extension(minutes=3.0))
        config = configuration(store)
        [extended] = limits.grant(store, config)
        rule = limits.in_force(config, store)
    assert isinstance(extended.record, RunExtended)
    assert extended.record.cycles is None and extended.record.more_minutes == 3.0
    assert rule.cycles is None and rule.minutes == pytest.approx(extended.timing.at / 60 + 3.0)


def test_a_run_whose_last_evaluation_has_begun_begins_no_further_cycle(
    finished: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    with RunStore.open(path, write=True) as store:
        config = configuration(store)
        limits.ask(store, Extension(minutes=3.0))
        limits.grant(store, config)
        note = Guarded(cycle=2, guard="note", checked=0, vetoed=0, detail="")
        store.append([note], Timing(at=1.0))
        rule = limits.in_force(config, store)
        assert (rule.cycles, rule.minutes) == (1, None)
        assert limits.boundary(store) is not None


def test_a_run_that_spent_its_limit_is_not_made_longer(finished: Path, tmp_path: Path) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    with RunStore.open(path, write=True) as store:
        cut = Guarded(cycle=2, guard="budget", checked=1, vetoed=1, detail="nothing is left")
        store.append([cut, RunFinished(cycles=1, champion="v0000")], Timing(at=1.0))
    with pytest.raises(UsageError, match="spending limit"):
        resume(path, more=Extension(cycles=1))
    assert not of_kind(path, RunExtended)


@pytest.mark.parametrize(
    "more", [{}, {"cycles": 0}, {"cycles": -1}, {"minutes": 0.0}, {"minutes": float("nan")}]
)
def test_nothing_and_less_are_no_extension(more: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Extension(**more)  # type: ignore[arg-type]


class TestSettingsChangedByHand:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("alpha = 0.01", "alpha = 0.2", r"`gate.skill_alpha` is 0.2 there and 0.01 on record"),
            ("cycles = 1", "cycles = 9", r"`cycles` is 9 there .*--cycles \+N"),
            ("[gate]", "[gate", "not TOML any more.*remove the file"),
            ("alpha = 0.01", "alpa = 0.01", "alpa.*remove the file"),
        ],
    )
    @pytest.mark.parametrize("more", [None, Extension(cycles=1)])
    def test_they_are_refused_with_what_to_do(
        self, old: str, new: str, said: str, more: Extension | None, finished: Path, tmp_path: Path
    ) -> None:
        path = shutil.copytree(finished, tmp_path / "run")
        file = path / SETTINGS
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
        head = journal(path)[0]
        with pytest.raises(ConfigError, match=f"(?s){said}"):
            resume(path, more=more)
        assert journal(path)[0] == head

    def test_a_file_that_says_the_same_in_other_words_is_no_change(
        self, finished: Path, tmp_path: Path
    ) -> None:
        path = shutil.copytree(finished, tmp_path / "run")
        file = path / SETTINGS
        file.write_text("# mine\n" + file.read_text())
        resume(path)

    def test_without_the_file_the_record_holds(self, finished: Path, tmp_path: Path) -> None:
        path = shutil.copytree(finished, tmp_path / "run")
        (path / SETTINGS).unlink()
        resume(path)


def test_each_access_to_the_sealed_split_is_counted_on(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = len(of_kind(run, SealedOpened))
    resume(run, more=Extension(cycles=1))
    opened = of_kind(run, SealedOpened)
    assert [record.count for record in opened] == list(range(1, before + 2))
    assert len({record.digest for record in opened}) == 1
    report = audit(run)
    assert report.ok and report.sealed.accesses == before + 1, report.findings


@pytest.mark.long
def test_a_stop_that_came_too_late_ends_no_later_cycles(finished: Path, tmp_path: Path) -> None:
    """It was asked while the last score was under way: it is about what has ended."""
    path = shutil.copytree(finished, tmp_path / "run")
    for command in ("stop", "pause"):
        Inbox(path).put(Request(command=command), 0)  # type: ignore[arg-type]
    resume(path, more=Extension(cycles=1))
    assert [record.cycle for record in of_kind(path, CycleFinished)] == [1, 2]
    assert not of_kind(path, Controlled) and Inbox(path).next(0) is None


@pytest.mark.long
def test_a_pause_while_an_extension_waits_for_the_cycle_under_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(Config.load("small").override(seed=3, cycles=1), path, ended_at(8))

    def asked(entry: Entry) -> None:
        if isinstance(entry.record, Gated) and Inbox(path).next(0) is None:
            Inbox(path).put(Request(command="pause"), 0)

    resume(path, asked, more=Extension(cycles=1))
    with RunStore.open(path) as store:
        assert read(store).status == "paused"
        assert not of_kind(path, RunExtended) and limits.asked(store) == [Extension(cycles=1)]
    resume(path)
    assert [record.cycle for record in of_kind(path, CycleFinished)] == [1, 2]


@pytest.mark.parametrize("given", [{"cycles": 1.5}, {"cycles": True}, {"minutes": "3"}])
def test_an_extension_of_another_type_is_refused_before_it_is_kept(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="give a"):
        Extension(**given)  # type: ignore[arg-type]


def test_a_run_that_goes_on_is_running_while_it_loads(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    seen: list[str] = []

    def opened(*_: object) -> NoReturn:
        with RunStore.open(path) as store:
            seen.append(read(store).status)
        raise KeyboardInterrupt

    monkeypatch.setattr("moevolve.loop.run.opened", opened)
    with pytest.raises(KeyboardInterrupt):
        resume(path, more=Extension(cycles=1))
    assert seen == ["running"]


def test_whoever_goes_on_knows_how_long_a_cycle_takes(finished: Path) -> None:
    """Else a run that paused near its end begins a cycle that an undisturbed one does not."""
    with RunStore.open(finished) as store:
        at = {type(record): at for _, record, at in store.records()}
        rule = limits.in_force(Config.load("small").override(minutes=10.0), store)
    took = at[CycleFinished] - at[CycleStarted]
    assert took > 0 and not rule.another(1, 600 - took) and rule.another(1, 600 - 1.2 * took)
