"""Nulls of an optimisation run: what as many evaluations come to without its search, in runs of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from optimising import head, records, started

from moevolve.auditor import audit
from moevolve.cli.main import main
from moevolve.errors import ConfigError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.store import RunStore
from moevolve.loop import run as runs
from moevolve.loop.optimise import nulls
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.optimise.settings import from_canonical, settings
from moevolve.records import (
    Command,
    Controlled,
    Entry,
    NullSearched,
    Rated,
    Record,
    RunFinished,
    RunStarted,
    State,
    VariantAdded,
)
from moevolve.report.optimisation import figures_of
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder

Problem = Callable[..., EvaluatorFolder]
PARTS = "A = 3\nB = 0.5\n"
EVALUATOR = """
import runpy
def evaluate(path):
    space = runpy.run_path(path)
    return {"combined_score": 10 - abs(space["A"] - 70) - abs(space["B"] - 0.8)}
"""
STEPS = """
def propose(brief, rng):
    return f"A = {int(brief.parent.split()[2]) + rng.randint(1, 9)}\\nB = {rng.random()}\\n"
"""
"""The first program is so far from the best one that many steps beat each single one."""


def chosen(own: Path) -> dict[str, Any]:
    return {"evaluations": 30, "nulls": "on", "seed": 2, "proposers": [str(own)]}


def made(folder: Path) -> EvaluatorFolder:
    folder.mkdir()
    (folder / "initial_program.py").write_text(PARTS)
    (folder / "evaluator.py").write_text(EVALUATOR)
    return folders.openevolve(folder)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nulls")
    (path / "own.py").write_text(STEPS)
    started(made(path / "problem"), path / "run", **chosen(path / "own.py"))
    return path / "run"


def searched(out: Path) -> dict[str, NullSearched]:
    return {record.null: record for record in records(out) if isinstance(record, NullSearched)}


def parents(out: Path) -> list[str]:
    return [each.parents[0] for each in records(out) if isinstance(each, VariantAdded) and each.parents]


def test_both_have_the_runs_budget_and_evaluator(out: Path) -> None:
    found = searched(out)
    assert list(found) == list(nulls.NAMES) == ["best_of", "random_search"]
    assert isinstance(records(out)[-1], RunFinished)
    for name, record in found.items():
        nested = out / "nulls" / name
        assert record.head == head(nested)
        assert record.evaluations == 30 == sum(isinstance(each, Rated) for each in records(nested))
        first, ours = records(nested)[0], records(out)[0]
        assert isinstance(first, RunStarted) and isinstance(ours, RunStarted)
        assert (first.program, first.grader, first.seed) == (ours.program, ours.grader, ours.seed)


def test_the_best_of_n_are_children_of_the_first_program_and_random_search_takes_any(out: Path) -> None:
    assert set(parents(out / "nulls" / "best_of")) == {"v0"}
    anybody = set(parents(out / "nulls" / "random_search"))
    assert len(anybody) > 5


def test_a_nulls_proposer_sees_its_parent_alone(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "def propose(brief, rng):\n"
        "    alone = brief.best == brief.parent and not brief.others and not brief.failures\n"
        "    return f'A = {brief.evaluation}\\nB = {0.8 if alone else 0.5}\\n'\n"
    )
    started(made(tmp_path / "problem"), tmp_path / "run", nulls="on", proposers=[str(own)], evaluations=9)
    for name in nulls.NAMES:
        with RunStore.open(tmp_path / "run" / "nulls" / name) as store:
            programs = [each for _, each, _ in store.records() if isinstance(each, VariantAdded)][1:]
            assert programs and all(b"B = 0.8" in store.blob(each.program) for each in programs)
    assert audit(tmp_path / "run").ok
    assert runs.replay(tmp_path / "run", tmp_path / "again")[1] == head(tmp_path / "run")


def test_figures_show_them_beside_the_champion(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunStore.open(out) as store:
        found = figures_of(store)
    assert list(found["nulls"]) == list(nulls.NAMES)
    for name, record in searched(out).items():
        each = found["nulls"][name]
        assert each["score"] == record.score and each["over"] == found["final"] - each["score"]
    assert found["nulls"]["best_of"]["over"] > 0, "a search goes further than one step"
    assert main(["show", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "At as many evaluations, without the search: the best of as many children" in shown
    assert main(["report", str(out), "--html", str(out.parent / "page.html")]) == 0
    assert "without the search" in (out.parent / "page.html").read_text()


def test_a_replay_does_them_again(out: Path, tmp_path: Path) -> None:
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed == head(out)
    assert head(tmp_path / "again" / "nulls" / "best_of") == searched(out)["best_of"].head


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_run_that_is_interrupted_in_a_null_goes_on_to_the_same_head(
    out: Path, tmp_path: Path, share: float
) -> None:
    def stop(state: State) -> None:
        if state.status == "running" and state.stage.startswith("null random_search") and state.done >= share:
            raise KeyboardInterrupt

    folder = made(tmp_path / "problem")
    given = settings(folder, chosen(out.parent / "own.py"))
    try:
        optimisation.start(folder, given, tmp_path / "run", None, stop, workers=1)
    except KeyboardInterrupt:
        assert not isinstance(records(tmp_path / "run")[-1], RunFinished)
    runs.resume(tmp_path / "run")
    assert head(tmp_path / "run") == head(out)
    assert audit(tmp_path / "run").ok


@pytest.mark.parametrize("command", ["pause", "stop"])
def test_a_person_pauses_and_stops_nulls(out: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "run"

    def ask(state: State) -> None:
        if state.stage.startswith("null best_of") and not (path / "control").exists():
            Inbox(path).put(Request(command=command), 0)

    slow = EVALUATOR.replace("space = ", "import time; time.sleep(0.1)\n    space = ")
    folder = made(tmp_path / "problem")
    (folder.path / "evaluator.py").write_text(slow)
    optimisation.start(
        folder,
        settings(folder, {"evaluations": 12, "nulls": "on"}),
        path,
        None,
        ask,
        workers=1,
    )
    assert any(isinstance(record, Controlled) for record in records(path))
    if command == "stop":
        assert isinstance(records(path)[-1], RunFinished) and not searched(path)
    else:
        assert not isinstance(records(path)[-1], RunFinished)
        runs.resume(path)
        assert list(searched(path)) == list(nulls.NAMES)
    assert audit(path).ok, audit(path).findings
    assert runs.replay(path, tmp_path / "again")[1] == head(path)


def test_they_are_off_unless_asked_for(tmp_path: Path) -> None:
    folder = made(tmp_path / "problem")
    assert settings(folder, {}).nulls == "off"
    assert not any(
        isinstance(each, NullSearched) for each in started(folder, tmp_path / "run", evaluations=3)
    )
    assert not (tmp_path / "run" / "nulls").exists()
    with pytest.raises(ConfigError, match="null says which null"):
        settings(folder, {"null": "best_of"})


# ---------------------------------------------------------------------- the audit


def test_an_honest_run_is_in_order(out: Path) -> None:
    report = audit(out)
    assert report.ok, report.findings
    for name in nulls.NAMES:
        assert audit(out / "nulls" / name).ok


def rewritten(out: Path, path: Path, change: Callable[[list[Record]], list[Record]]) -> Path:
    """The run with other records of its own, every hash computed anew."""
    shutil.copytree(out / "nulls", path / "nulls")
    shutil.copytree(out / "evaluator", path / "evaluator")
    shutil.copytree(out / "program", path / "program")
    with RunStore.open(out) as source, RunStore.create(path) as store:
        entries: list[Entry] = source.entries()
        for entry in entries:
            if isinstance(entry.record, VariantAdded):
                store.put_blob(source.blob(entry.record.program))
        for record in change([entry.record for entry in entries]):
            store.append([record], entries[0].timing)
    return path


def nulls_changed(**fields: object) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [
        msgspec.structs.replace(each, **fields) if isinstance(each, NullSearched) else each
        for each in records
    ]


def another_seed(records: list[Record]) -> list[Record]:
    first = records[0]
    assert isinstance(first, RunStarted)
    given = from_canonical(first.config)
    assert given is not None
    other = msgspec.structs.replace(given, in_flight=7)
    return [msgspec.structs.replace(first, config=other.canonical()), *records[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nulls_changed(score=-99.0), "the champion's score is -99.0"),
        (nulls_changed(champion="v1"), "the champion is 'v1'"),
        (nulls_changed(evaluations=29), "evaluations is 29"),
        (nulls_changed(head="0" * 64), "was written down elsewhere"),
        (nulls_changed(null="best_of"), "or is on record twice"),
        (
            lambda all: [each for each in all if not isinstance(each, NullSearched)],
            "null best_of was asked for",
        ),
        (another_seed, "not the run's evaluator, program and settings"),
    ],
    ids=["score", "champion", "evaluations", "head", "twice", "left out", "settings"],
)
def test_forgeries_are_found(
    out: Path, tmp_path: Path, change: Callable[[list[Record]], list[Record]], said: str
) -> None:
    report = audit(rewritten(out, tmp_path / "forged", change))
    assert any(said in each.text for each in report.findings), report.findings


def test_a_null_that_was_changed_is_found(out: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(out, tmp_path / "run"))
    shutil.rmtree(path / "nulls" / "best_of")
    shutil.copytree(path / "nulls" / "random_search", path / "nulls" / "best_of")
    assert any(
        each.where.startswith("nulls/best_of") for each in audit(path).findings if each.kind == "mismatch"
    )
    shutil.rmtree(path / "nulls" / "best_of")
    assert any("its folder is missing" in each.text for each in audit(path).findings)
