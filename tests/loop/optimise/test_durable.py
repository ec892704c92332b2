"""No evaluation that has ended is lost or made twice, whatever the run waits for or ends by."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from scripted_endpoint import MODEL, ScriptedEndpoint, running  # noqa: E402

from moevolve.errors import EndpointError, StorageFullError  # noqa: E402
from moevolve.journal.control import Inbox, Request  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop import run as runs  # noqa: E402
from moevolve.loop.optimise import driver  # noqa: E402
from moevolve.loop.optimise import run as optimisation  # noqa: E402
from moevolve.loop.optimise.model import Model  # noqa: E402
from moevolve.loop.optimise.proposers import _Own  # noqa: E402
from moevolve.loop.optimise.search import Search  # noqa: E402
from moevolve.loop.optimise.settings import settings  # noqa: E402
from moevolve.loop.optimise.workers import Workers  # noqa: E402
from moevolve.records import Entry, Rated, Record  # noqa: E402
from moevolve.tasks.evaluators import folder as folders  # noqa: E402
from moevolve.tasks.evaluators.folder import EvaluatorFolder  # noqa: E402

EVALUATOR = """
import runpy
def evaluate(path):
    return {"combined_score": float(runpy.run_path(path)["A"])}
"""
OWN = "def propose(brief, rng):\n    return f'A = -{brief.evaluation}\\n'\n"


class Author(ScriptedEndpoint):
    """Answers with worse and worse programs, so that nothing is evaluated twice."""

    def reply(self, body: dict[str, Any]) -> str:
        calls = len(self.seen)
        edit = f"<<<<<<< SEARCH\nA = 0\n=======\nA = -{calls}\n>>>>>>> REPLACE\n"
        return edit if "SEARCH" in body["messages"][-1]["content"] else f"```python\nA = -{calls}\n```\n"


@pytest.fixture
def problem(tmp_path: Path) -> EvaluatorFolder:
    path = tmp_path / "problem"
    path.mkdir()
    (path / "initial_program.py").write_text("A = 0\n")
    (path / "evaluator.py").write_text(EVALUATOR)
    (path / "own.py").write_text(OWN)
    return folders.openevolve(path)


@pytest.fixture
def author() -> Iterator[Author]:
    with running(Author()) as server:
        yield server


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the evaluations that were begun, in order."""
    numbers: list[int] = []
    begin = Workers.begin

    def noted(self: Workers, evaluation: int, program: str, key: int) -> None:
        numbers.append(evaluation)
        begin(self, evaluation, program, key)

    monkeypatch.setattr(Workers, "begin", noted)
    return numbers


def given(**more: Any) -> dict[str, Any]:
    return {"evaluations": 8, "in_flight": 1, "selection": "random", **more}


def modelled(server: Author, **more: Any) -> dict[str, Any]:
    return given(proposers=["model"], **{"proposer.endpoint": server.url, "proposer.model": MODEL}, **more)


def own(problem: EvaluatorFolder, **more: Any) -> dict[str, Any]:
    return given(proposers=[str(problem.path / "own.py")], **more)


def records(out: Path) -> list[Record]:
    with RunStore.open(out) as store:
        return [entry.record for entry in store.entries()]


def rated(out: Path) -> list[int]:
    return [record.evaluation for record in records(out) if isinstance(record, Rated)]


class TestWhatIsOnRecordWhenAProposerIsAsked:
    """With one evaluation in flight, every evaluation before the one that a program is proposed for has ended."""

    def on_record(
        self, asked: type, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[list[int], Callable[..., None]]:
        """(evaluations on record at each call, a run's listener)."""
        durable: list[int] = []
        at_calls: list[int] = []
        call = asked.__call__

        def noted(self: Any, brief: Any, rng: Any) -> Any:
            at_calls.append(len(durable) - brief.evaluation)
            return call(self, brief, rng)

        def seen(entry: Entry) -> None:
            if isinstance(entry.record, Rated):
                durable.append(entry.record.evaluation)

        monkeypatch.setattr(asked, "__call__", noted)
        return at_calls, seen

    def test_a_model(
        self, problem: EvaluatorFolder, author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at_calls, seen = self.on_record(Model, monkeypatch)
        optimisation.start(problem, settings(problem, modelled(author)), tmp_path / "out", seen, workers=1)
        assert at_calls == [0] * 7

    def test_a_slow_proposer_of_ones_own(
        self, problem: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "QUICK", 0.0)
        at_calls, seen = self.on_record(_Own, monkeypatch)
        optimisation.start(problem, settings(problem, own(problem)), tmp_path / "out", seen, workers=1)
        assert at_calls == [0] * 7

    def test_a_quick_one_whose_program_is_in_the_same_commit(
        self, problem: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "QUICK", 3600.0)
        at_calls, seen = self.on_record(_Own, monkeypatch)
        optimisation.start(problem, settings(problem, own(problem)), tmp_path / "out", seen, workers=1)
        assert at_calls == [0] + [-1] * 6, "how quick it is nobody knows before the first call"


def failing(monkeypatch: pytest.MonkeyPatch, evaluation: int, error: BaseException) -> None:
    """Lets the planning of an evaluation end by an error, once."""
    plan = Search.plan
    left = [error]

    def planned(self: Search, number: int, begun: Any) -> Any:
        if number == evaluation and left:
            raise left.pop()
        return plan(self, number, begun)

    monkeypatch.setattr(Search, "plan", planned)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EndpointError("gone")], ids=["interrupted", "server"])
@pytest.mark.parametrize("quick", [0.0, 3600.0], ids=["two commits", "one commit"])
def test_planning_that_ends_the_run_costs_no_evaluation(
    problem: EvaluatorFolder,
    tmp_path: Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    quick: float,
) -> None:
    monkeypatch.setattr(driver, "QUICK", quick)
    chosen = settings(problem, own(problem))
    optimisation.start(problem, chosen, tmp_path / "whole", workers=1)
    begun.clear()
    failing(monkeypatch, 5, error)
    with pytest.raises(type(error)):
        optimisation.start(problem, chosen, tmp_path / "out", workers=1)
    assert rated(tmp_path / "out") == [0, 1, 2, 3, 4]
    runs.resume(tmp_path / "out")
    assert begun == list(range(8)) and records(tmp_path / "out") == records(tmp_path / "whole")


def test_what_ends_before_the_run_is_interrupted_is_kept(
    problem: EvaluatorFolder, tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been said, and nobody has heard it yet."""
    pools: list[Workers] = []
    init, plan = Workers.__init__, Search.plan

    def made(self: Workers, *rest: Any) -> None:
        init(self, *rest)
        pools.append(self)

    def interrupted(self: Search, number: int, planned: Any) -> Any:
        if number == 3 and len(pools) == 1:
            if pools[0].busy:
                select.select(pools[0].filenos, [], [])  # Evaluation 2 ends now, if it has not before.
            raise KeyboardInterrupt
        return plan(self, number, planned)

    monkeypatch.setattr(driver, "QUICK", 3600.0)
    monkeypatch.setattr(Workers, "__init__", made)
    monkeypatch.setattr(Search, "plan", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        optimisation.start(problem, settings(problem, own(problem, in_flight=2)), out, workers=2)
    with RunStore.open(out) as store:
        assert [key for key, _ in store.scan(driver.RESULTS)] == ["00000002"]
    runs.resume(out)
    assert len(begun) == len(set(begun)) and rated(out) == list(range(8))


def test_what_ends_while_a_server_is_asked_is_kept_at_once(
    problem: EvaluatorFolder,
    author: Author,
    tmp_path: Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that is killed during a call, which may take minutes, makes none of them again."""
    kept: set[int] = set()
    puts, call = RunStore.puts, Model.__call__

    def noted(self: RunStore, changes: Any) -> None:
        puts(self, changes)
        kept.update(int(key) for table, key, _ in changes if table == driver.RESULTS)

    def slow(self: Model, brief: Any, rng: Any) -> Any:
        deadline = time.monotonic() + 30
        while brief.evaluation == 3 and 2 not in kept:
            assert time.monotonic() < deadline
            os.sched_yield()
        return call(self, brief, rng)

    monkeypatch.setattr(RunStore, "puts", noted)
    monkeypatch.setattr(Model, "__call__", slow)
    out = tmp_path / "out"
    optimisation.start(problem, settings(problem, modelled(author, in_flight=2)), out, workers=2)
    assert len(begun) == len(set(begun)) and rated(out) == list(range(8))


def test_a_store_that_fails_meanwhile_ends_the_run(
    problem: EvaluatorFolder, author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunStore, changes: Any) -> None:
        raise StorageFullError("no space is left")

    call = Model.__call__

    def failing(self: Model, brief: Any, rng: Any) -> Any:
        if brief.evaluation == 3:
            hearing = next(each for each in threading.enumerate() if each.name == "moevolve-hearing")
            hearing.join(30)
        return call(self, brief, rng)

    monkeypatch.setattr(RunStore, "puts", full)
    monkeypatch.setattr(Model, "__call__", failing)
    with pytest.raises(StorageFullError):
        optimisation.start(
            problem, settings(problem, modelled(author, in_flight=2)), tmp_path / "out", workers=2
        )


@pytest.mark.parametrize("command", ["pause", "stop"])
def test_what_has_ended_is_on_record_before_a_person_is_heard(
    problem: EvaluatorFolder, tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setattr(driver, "SAYING", 0.0)
    out = tmp_path / "out"
    begin = Workers.begin

    def asked(self: Workers, evaluation: int, program: str, key: int) -> None:
        begin(self, evaluation, program, key)
        if evaluation == 3 and begun.count(3) == 1:
            Inbox(out).put(Request(command=command), 0)

    monkeypatch.setattr(Workers, "begin", asked)
    optimisation.start(problem, settings(problem, own(problem)), out, workers=1)
    assert rated(out) == [0, 1, 2, 3]
    runs.resume(out)
    assert begun == (list(range(8)) if command == "pause" else [0, 1, 2, 3])


def test_nothing_waits_for_the_imports_of_a_new_process(
    problem: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "warm", False)
    order: list[str] = []
    begin, puts = Workers.begin, RunStore.puts

    def started(self: Workers, evaluation: int, program: str, key: int) -> None:
        order.append(f"begun {evaluation}")
        begin(self, evaluation, program, key)

    def noted(self: RunStore, changes: Any) -> None:
        order.extend(f"kept {int(key)}" for table, key, _ in changes if table == driver.RESULTS)
        puts(self, changes)

    monkeypatch.setattr(Workers, "begin", started)
    monkeypatch.setattr(RunStore, "puts", noted)
    chosen = settings(problem, own(problem, in_flight=2, evaluations=3))
    optimisation.start(problem, chosen, tmp_path / "out", workers=1)
    assert order == ["begun 0", "begun 1", "kept 1", "begun 2"]
