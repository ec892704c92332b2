"""The growth of a run's skill tree: tried, added, on record, rolled back; and no score ever counts it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.journal import seal
from moevolve.journal.control import Inbox, Request
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.limits import Extension
from moevolve.loop.run import replay, resume, roll_back, start
from moevolve.records import (
    Attempted,
    Controlled,
    Entry,
    Evaluated,
    Gated,
    Grown,
    GrowthScored,
    Record,
    RunFinished,
    Screened,
    SealedOpened,
)
from moevolve.skills.growth import judge, new_leaves
from moevolve.tasks.suite import Suite

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from growing import growing  # noqa: E402


def records(path: Path) -> list[Record]:
    with RunStore.open(path) as store:
        return [entry.record for entry in store.entries()]


def head(path: Path) -> str:
    with RunStore.open(path) as store:
        return store.head()


def grown(path: Path) -> list[Grown]:
    return [record for record in records(path) if isinstance(record, Grown)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(growing(), tmp_path_factory.mktemp("growth") / "run")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# ---------------------------------------------------------------------- what grows


def test_mastered_skills_open_levels_and_compose_and_each_change_was_tried_on_train_tasks(
    finished: Path,
) -> None:
    changes = grown(finished)
    assert {"levels", "compose"} <= {each.change for each in changes if each.decision == "added"}
    for each in changes:
        assert each.trial and sum(tally.attempts for tally in each.trial) >= 16
        assert (each.decision == "added") is judge(each.change, each.trial)[0]
    opened = [each for each in changes if each.change == "levels" and each.decision == "added"]
    assert all(each.leaves[0].levels[1] > 3 for each in opened)


def test_what_was_grown_gets_attempts_of_its_own_and_no_more_than_its_share(finished: Path) -> None:
    attempted = [record for record in records(finished) if isinstance(record, Attempted)]
    own = [each for each in attempted if each.stage.startswith("grown")]
    assert own, "what was grown in the first cycle is practised in the second"
    leaves = set(new_leaves([each for each in grown(finished) if each.decision == "added"]))
    suite = {path for each in attempted if each not in own for path in (t.skill for t in each.tallies)}
    assert not suite & leaves

    def tasks(stages: list[Attempted]) -> float:
        samples = {"direct": 2, "program": 1}
        return sum(t.attempts / samples[each.source] for each in stages for t in each.tallies)

    second = [each for each in attempted if each.cycle == 2]
    assert tasks(second) == 96
    assert tasks([each for each in second if each in own]) == 24


def test_no_score_no_gate_and_no_screening_counts_what_was_grown(finished: Path) -> None:
    suite = {"text/reverse", "text/caesar", "text/sort", "number/add"}
    for record in records(finished):
        if isinstance(record, Evaluated):
            assert set(record.skills) == suite
            assert all(tally.level <= 3 for tally in record.tallies)
        if isinstance(record, Gated | Screened):
            assert set(record.skills) <= suite
    sealed = [each for each in records(finished) if isinstance(each, SealedOpened)]
    assert [each.when for each in sealed] == ["initial", "final", "growth"]
    assert sealed[0].digest == sealed[1].digest


def test_the_growth_column_comes_last_and_holds_new_leaves_and_opened_levels(finished: Path) -> None:
    column = next(record for record in records(finished) if isinstance(record, GrowthScored))
    added = [each for each in grown(finished) if each.decision == "added"]
    wanted = set(new_leaves(added)) | {each.skill for each in added if each.change == "levels"}
    assert set(column.skills) == wanted
    assert all(tally.level > 3 for tally in column.tallies if tally.skill == "text/sort")
    assert column.behaviour is not None


def test_growth_is_the_same_for_one_seed_and_replays(finished: Path, tmp_path: Path) -> None:
    assert head(start(growing(), tmp_path / "again")) == head(finished)
    on_file, again = replay(finished, tmp_path / "scratch")
    assert on_file == again


def test_without_growth_nothing_of_it_is_on_record(tmp_path: Path) -> None:
    path = start(growing(cycles=1, **{"growth.on": False}), tmp_path / "off")
    assert not any(isinstance(record, Grown | GrowthScored) for record in records(path))
    with RunStore.open(path) as store:
        assert read(store).view.growth.tries == 0


def test_nothing_grows_of_which_the_gate_or_the_last_score_would_have_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Suite, "has", lambda suite, split, path, level: split != "sealed")
    assert not grown(start(growing(), tmp_path / "run"))


@pytest.mark.parametrize("where", [Grown, GrowthScored, "grown direct"])
def test_a_run_that_was_killed_while_it_grew_ends_with_the_undisturbed_head(
    finished: Path, tmp_path: Path, where: type | str
) -> None:
    def kill(entry: Entry) -> None:
        record = entry.record
        stage = isinstance(record, Attempted) and record.stage == where
        if stage or (isinstance(where, type) and isinstance(record, where)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(growing(), tmp_path / "killed", kill)
    resume(tmp_path / "killed")
    assert head(tmp_path / "killed") == head(finished)


# ---------------------------------------------------------------------- rolled back


def test_a_change_is_rolled_back_after_the_end_and_the_run_stays_whole(copy: Path, tmp_path: Path) -> None:
    composed = next(each for each in grown(copy) if each.change == "compose" and each.decision == "added")
    entry = roll_back(copy, composed.growth)
    assert entry is not None and isinstance(entry.record, Controlled) and entry.record.done
    with RunStore.open(copy) as store:
        view = read(store).view
        assert store.verify() == len(store)
    assert composed.skill not in view.growth.skills and composed.skill in view.growth.gone
    assert view.finished and seal.is_sealed(copy)
    before = head(copy)
    assert resume(copy) == copy and head(copy) == before, "it stays finished"
    on_file, again = replay(copy, tmp_path / "scratch")
    assert on_file == again == before


def test_what_was_rolled_back_is_not_proposed_again_when_the_run_goes_on(copy: Path) -> None:
    opened = next(each for each in grown(copy) if each.change == "levels" and each.decision == "added")
    roll_back(copy, opened.growth)
    count = len(grown(copy))
    resume(copy, more=Extension(cycles=1))
    later = grown(copy)[count:]
    assert all((each.change, each.skill) != ("levels", opened.skill) for each in later)
    assert isinstance(records(copy)[-1], RunFinished)


def test_a_rollback_of_a_run_under_way_is_taken_up_between_two_stages(tmp_path: Path) -> None:
    path = tmp_path / "asked"

    def ask(entry: Entry) -> None:
        record = entry.record
        added = isinstance(record, Grown) and record.decision == "added"
        if added and isinstance(record, Grown) and not (path / "control").exists():
            Inbox(path).put(Request(command="rollback", variant=record.growth), 0)

    start(growing(), path, ask)
    controlled = [record for record in records(path) if isinstance(record, Controlled)]
    assert [(each.command, each.done) for each in controlled] == [("rollback", True)]
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


def test_a_change_that_is_not_in_force_cannot_be_rolled_back(copy: Path) -> None:
    before = head(copy)
    with pytest.raises(UsageError, match="g999.*g001"):
        roll_back(copy, "g999")
    roll_back(copy, "g001")
    with pytest.raises(UsageError, match="g001"):
        roll_back(copy, "g001")
    assert head(copy) != before
