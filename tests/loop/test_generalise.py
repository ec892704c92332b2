"""Generalisation of a finished run: five columns, from the screening's own tasks to a branch that was never worked on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import moevolve as mv
from moevolve.auditor import audit
from moevolve.config import Config
from moevolve.journal.control import Inbox, Request
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop import snapshot as snapshots
from moevolve.loop.generalising import GREW, held_out
from moevolve.loop.limits import Extension
from moevolve.loop.run import replay, resume, start
from moevolve.records import (
    Attempted,
    Entry,
    Evaluated,
    Gated,
    Generalised,
    Guarded,
    Record,
    Screened,
    SealedOpened,
)
from moevolve.report.generalisation import ColumnFigures, generalisation

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from generalising import generalising  # noqa: E402

WORKED = {"text/reverse", "text/caesar", "text/dedupe", "number/add"}


def records(path: Path) -> list[Record]:
    with RunStore.open(path) as store:
        return [entry.record for entry in store.entries()]


def head(path: Path) -> str:
    with RunStore.open(path) as store:
        return store.head()


def columns(path: Path) -> dict[str, Generalised]:
    return {each.column: each for each in records(path) if isinstance(each, Generalised)}


def figures(path: Path) -> dict[str, ColumnFigures]:
    with RunStore.open(path) as store:
        return generalisation(read(store).view)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(generalising(), tmp_path_factory.mktemp("generalise") / "run")


# ---------------------------------------------------------------------- what is measured


def test_a_run_has_all_five_columns_with_gains_between_the_same_tasks(finished: Path) -> None:
    found = figures(finished)
    assert list(found) == ["G0", "G1", "G2", "G3", "G4"]
    for name, column in found.items():
        assert column.reason is None and column.gain is not None and column.gain_ci is not None, name
    final = next(each for each in records(finished) if isinstance(each, Evaluated) and each.when == "final")
    assert (found["G1"].final, found["G1"].n) == (final.score.mean, final.score.n)
    assert found["G2"].gain > 0.3 and found["G3"].gain == 0.0, "its plans of other skills are the seed's"  # type: ignore[operator]


def test_same_tasks_are_those_that_the_champions_program_was_screened_on(finished: Path) -> None:
    same = columns(finished)["G0"]
    [screening] = [
        each for each in records(finished) if isinstance(each, Screened) and each.variant == same.variant
    ]
    assert sum(n for *_, n in same.cells) == screening.n == 48
    counts = {path: share.n for path, share in screening.skills.items()}
    for skill in counts:
        assert sum(n for path, _, n in same.cells if path == skill) == counts[skill]


def test_new_levels_other_skill_and_other_branch_are_what_the_run_left_out(finished: Path) -> None:
    found = columns(finished)
    assert {cell[:2] for cell in found["G2"].cells} == {(path, level) for path in WORKED for level in (9, 10)}
    left = {"text/sort", "number/compare", "number/count", "number/parity", "number/subtract"}
    assert {skill for skill, *_ in found["G3"].cells} == left
    assert {skill.partition("/")[0] for skill, *_ in found["G4"].cells} == {"compose"}
    assert {level for name in ("G3", "G4") for _, level, _ in found[name].cells} == {7, 8}


def test_nothing_before_the_last_score_sees_what_was_left_out(finished: Path) -> None:
    for record in records(finished):
        if isinstance(record, Attempted):
            assert {tally.skill for tally in record.tallies} <= WORKED
            assert all(tally.level <= 8 for tally in record.tallies)
        if isinstance(record, Evaluated | Gated | Screened):
            assert set(record.skills) <= WORKED
    opened = [each for each in records(finished) if isinstance(each, SealedOpened)]
    assert [each.when for each in opened] == ["initial", "final", *["generalise"] * 3]
    assert [each.count for each in opened] == [1, 2, 3, 4, 5]


# ---------------------------------------------------------------------- what is not


def test_a_run_that_is_not_asked_has_no_column(tmp_path: Path) -> None:
    path = start(generalising(**{"generalise.per_cell": 0, "cycles": 0}), tmp_path / "off")
    assert not columns(path) and not figures(path)


def test_a_column_that_is_missing_says_why(tmp_path: Path) -> None:
    settings = {"suite.skills": [], "suite.levels": [1, 1], "evolve.generations": 0}
    found = figures(start(generalising(**settings), tmp_path / "run"))
    assert {name: column.reason for name, column in found.items()} == {
        "G0": "the champion's program passed no screening",
        "G1": None,
        "G2": None,
        "G3": "no skill was left out",
        "G4": "no skill was left out",
    }


def test_levels_that_a_tree_may_open_are_no_new_levels() -> None:
    config = generalising(**{"growth.on": True})
    found = held_out(config, resolve.suite(config), {"text/sort"})
    assert found.reasons == {"G2": GREW} and not found.cells["G2"]
    assert "text/sort" not in {path for path, _ in found.cells["G3"]}, "the tree tried a leaf of that name"


def test_a_skill_with_so_many_levels_and_no_more_has_none_above() -> None:
    config = Config.load("small", {"suite.name": "office", "generalise.per_cell": 1})
    assert held_out(config, resolve.suite(config)).reasons["G2"] == "no skill of the run has higher levels"


def test_a_run_that_a_person_stops_has_no_column_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stopped"

    def stop(entry: Entry) -> None:
        if entry.seq == 8:
            Inbox(path).put(Request(command="stop"), 0)

    start(generalising(), path, stop)
    assert {each.reason for each in columns(path).values()} == {"the run was cut short"}
    assert len(columns(path)) == 4 and audit(path).ok


def test_a_spending_limit_leaves_the_columns_that_were_scored(finished: Path, tmp_path: Path) -> None:
    with RunStore.open(finished) as store:
        state = snapshots.latest(store)
    assert state is not None
    path = start(generalising(**{"guard.most_requests": state.requests - 60}), tmp_path / "limited")
    cut = "the run was cut short"
    assert {name: each.reason for name, each in columns(path).items()} == {
        "G0": "",
        "G2": "",
        "G3": cut,
        "G4": cut,
    }
    assert audit(path).ok, audit(path).findings


# ---------------------------------------------------------------------- the same again


def test_it_is_the_same_again(finished: Path, tmp_path: Path) -> None:
    on_file, again = replay(finished, tmp_path / "scratch")
    assert on_file == again


@pytest.mark.parametrize("kind", [SealedOpened, Generalised])
def test_a_run_that_was_killed_while_it_was_measured_ends_with_the_undisturbed_head(
    finished: Path, tmp_path: Path, kind: type
) -> None:
    count = 0

    def kill(entry: Entry) -> None:
        nonlocal count
        count += isinstance(entry.record, kind)
        if count == 4 - (kind is Generalised):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(generalising(), tmp_path / "killed", kill)
    resume(tmp_path / "killed")
    assert head(tmp_path / "killed") == head(finished)


def test_a_run_that_goes_on_is_measured_again_and_its_tokens_are_counted(tmp_path: Path) -> None:
    path = start(generalising(), tmp_path / "run")
    resume(path, more=Extension(cycles=1))
    scored = [each.column for each in records(path) if isinstance(each, Generalised)]
    assert scored == ["G0", "G2", "G3", "G4"] * 2
    report = audit(path)
    assert report.ok, report.findings


def test_tasks_that_are_listed_each_count_once_and_a_check_that_raises_is_on_record(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "suite.toml").write_text('name = "dates"\nanswers = "any"\n')
    (suite / "tasks.jsonl").write_text(
        "".join(
            f'{{"id": "{skill}{index}", "skill": "{skill}", "prompt": "{skill} {index}?", "answer": "{index}"}}\n'
            for skill in ("iso", "long")
            for index in range(20)
        )
    )
    (suite / "check.py").write_text(
        "def check(task, answer, workspace):\n"
        "    assert task['skill'].endswith('iso')\n    return answer == task['answer']\n"
    )
    settings = {"suite.skills": ["dates/iso"], "generalise.per_cell": 3, "evolve.generations": 0}
    path = tmp_path / "run"
    mv.evolve("small", out=path, arm="program", cycles=0, suite=suite, settings=settings).wait()
    found = columns(path)
    assert found["G3"].cells == [("dates/long", 1, 3)] and found["G3"].outcomes["seed"] == [0.0] * 3
    assert found["G4"].reason == "no branch with these levels was left out"
    checks = [each for each in records(path) if isinstance(each, Guarded) and each.guard == "checks"]
    assert [each.vetoed for each in checks] == [6], "of both, three each"
    assert audit(path).ok, audit(path).findings
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again
