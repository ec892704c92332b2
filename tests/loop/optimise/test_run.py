"""Optimisation runs: one record for a seed, whoever evaluates and whatever interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optimising import EVALUATOR, head, records, started

from moevolve.auditor import audit
from moevolve.cli.main import main
from moevolve.errors import ConfigError, UsageError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.store import RunStore
from moevolve.loop import run as runs
from moevolve.loop.optimise import driver
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.optimise import settings as settings_
from moevolve.loop.optimise.settings import settings
from moevolve.loop.optimise.workers import Workers
from moevolve.records import Command, Controlled, Entry, Improved, Rated, RunFinished, VariantAdded
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess

FOLDERS = Path(__file__).parents[2] / "fixtures" / "evaluators"


def test_a_seed_gives_one_record_however_many_evaluate(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    first = started(problem(), tmp_path / "a", workers=1, seed=4)
    assert started(problem(), tmp_path / "b", workers=3, seed=4) == first
    assert started(problem(), tmp_path / "c", workers=1, seed=5) != first
    rated = [record for record in first if isinstance(record, Rated)]
    assert [record.evaluation for record in rated] == list(range(30))
    improved = [record for record in first if isinstance(record, Improved)]
    assert improved and all(record.rule == "equal" and record.decision == "promote" for record in improved)
    scores = [record.candidate_scores[0] for record in improved]
    assert scores == sorted(scores) and rated[0].score == pytest.approx(5.7)
    last = first[-1]
    assert isinstance(last, RunFinished) and last.champion == improved[-1].candidate


def test_a_replay_comes_to_the_same_head(problem: Callable[..., EvaluatorFolder], tmp_path: Path) -> None:
    started(problem(), tmp_path / "a")
    recorded, replayed = runs.replay(tmp_path / "a", tmp_path / "again")
    assert recorded == replayed == head(tmp_path / "a")


def test_the_layers_on_file_are_those_around_evaluations(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    """Not those around an agent's programs, which have a filter of system calls and a clock of their own."""
    started(problem(), tmp_path / "out", evaluations=3)
    with RunStore.open(tmp_path / "out") as store, EvaluatorProcess(problem(), EvaluatorLimits()) as process:
        process.start()
        assert store.sandbox() == process.sandbox


def test_policies_that_look_twice_and_grids(problem: Callable[..., EvaluatorFolder], tmp_path: Path) -> None:
    for name in ("hgm", "map-elites-islands", "gepa-pareto", "best"):
        found = started(problem(), tmp_path / name, selection=name, population=6)
        assert sum(isinstance(record, Rated) for record in found) == 30
        assert runs.replay(tmp_path / name, tmp_path / f"{name}-again")[1] == head(tmp_path / name)


@pytest.mark.parametrize("moment", [1, 9, 20, 41])
def test_a_killed_run_repeats_nothing_that_had_ended(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = problem()
    undisturbed = started(folder, tmp_path / "whole", workers=2, seed=3)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from moevolve.loop.optimise import run\n"
        "from moevolve.loop.optimise.settings import settings\n"
        "from moevolve.tasks.evaluators import folder as folders\n"
        f"folder = folders.openevolve(Path({str(folder.path)!r}))\n"
        "def seen(entry):\n"
        f"    if entry.seq >= {moment}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "chosen = settings(folder, dict(evaluations=30, seed=3))\n"
        f"run.start(folder, chosen, Path({str(tmp_path / 'killed')!r}), seen, workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == -signal.SIGKILL
    out = tmp_path / "killed"
    before = {record.evaluation for record in records(out) if isinstance(record, Rated)}
    with RunStore.open(out) as store:
        before |= {int(key) for key, _ in store.scan(driver.RESULTS)}
    begun: list[int] = []
    begin = Workers.begin

    def noted(self: Workers, evaluation: int, program: str, key: int) -> None:
        begun.append(evaluation)
        begin(self, evaluation, program, key)

    monkeypatch.setattr(Workers, "begin", noted)
    runs.resume(out)
    assert not before & set(begun) and len(begun) == len(set(begun))
    assert records(out) == undisturbed and head(out) == head(tmp_path / "whole")


def test_a_result_ahead_of_its_turn_is_kept(problem: Callable[..., EvaluatorFolder], tmp_path: Path) -> None:
    """The second evaluation of four takes longest; those after it end first, and the run is killed before it does."""
    slow = EVALUATOR.replace("space = ", "import time\n    space = ") + "\n"
    slow = slow.replace("    return", "    time.sleep(5.0 if space['A'] == 100 else 0)\n    return")
    proposer = tmp_path / "counting.py"
    proposer.write_text(
        "def propose(brief, rng):\n"
        "    number = {1: 100, 2: 101, 3: 102}.get(brief.evaluation, brief.evaluation)\n"
        "    return brief.parent.replace('A = 3', f'A = {number}') if 'A = 3' in brief.parent else None\n"
    )
    folder = problem(slow)
    out = tmp_path / "out"
    chosen = settings(folder, {"evaluations": 4, "proposers": [str(proposer)], "selection": "random"})

    class Interrupted(Exception):
        pass

    early: list[str] = []
    puts = RunStore.puts

    def noted(self: RunStore, changes: Any) -> None:
        puts(self, changes)
        early.extend(key for table, key, _ in changes if table == driver.RESULTS)
        if len(early) == 2:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunStore, "puts", noted)
        with pytest.raises(Interrupted):
            optimisation.start(folder, chosen, out, workers=2)
    assert set(early) == {"00000002", "00000003"}
    begun: list[int] = []
    begin = Workers.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Workers,
            "begin",
            lambda self, number, *rest: begun.append(number) or begin(self, number, *rest),  # type: ignore[func-returns-value]
        )
        runs.resume(out)
    assert begun == [1]
    assert [record.evaluation for record in records(out) if isinstance(record, Rated)] == [0, 1, 2, 3]


@pytest.mark.parametrize("command", ["stop", "pause"])
def test_a_person_ends_or_pauses_a_run(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SAYING", 0.0)
    folder, out = problem(), tmp_path / "out"

    def ask(entry: Entry) -> None:
        if isinstance(entry.record, Rated) and entry.record.evaluation == 6:
            Inbox(out).put(Request(command=command), 0)

    optimisation.start(folder, settings(folder, {"evaluations": 20}), out, ask, workers=1)
    found = records(out)
    assert sum(isinstance(record, Controlled) for record in found) == 1
    assert isinstance(found[-1], RunFinished if command == "stop" else Controlled)
    assert sum(isinstance(record, Rated) for record in found) < 20
    if command == "pause":
        runs.resume(out)
        assert sum(isinstance(record, Rated) for record in records(out)) == 20
    assert audit(out).ok
    assert runs.replay(out, tmp_path / "again")[1] == head(out)


def test_luck_promotes_nothing_and_a_real_gain_does(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    """Scores are drawn anew in every evaluation; the champion's own scores are drawn as well."""
    noisy = (
        "import random, runpy\n"
        "def evaluate(path):\n"
        "    return {'combined_score': runpy.run_path(path)['A'] + random.gauss(0, 0.3)}\n"
    )
    file = tmp_path / "own.py"
    file.write_text("def propose(brief, rng):\n    return f'A = 3\\nB = {brief.evaluation}\\n'\n")
    folder = problem(noisy)
    null = started(folder, tmp_path / "null", evaluations=120, proposers=[str(file)])
    assert not [record for record in null if isinstance(record, Improved) and record.decision == "promote"]
    file.write_text(
        "def propose(brief, rng):\n    return f'A = {3 + brief.evaluation // 10}\\nB = {brief.evaluation}\\n'\n"
    )
    better = started(folder, tmp_path / "better", evaluations=120, proposers=[str(file)])
    promoted = [record for record in better if isinstance(record, Improved) and record.decision == "promote"]
    assert promoted and all(
        record.rule == "permutation" and len(record.candidate_scores) >= 8 for record in promoted
    )
    assert all(
        record.p is not None and record.alpha is not None and record.p <= record.alpha for record in promoted
    )


PENALTY = """
import runpy, sys
def evaluate(path):
    space = runpy.run_path(path)
    return {"combined_score": -sys.float_info.max if space["A"] < 6 else 10 - abs(space["A"] - 7)}
"""


@pytest.mark.parametrize("name", ["shinka", "hgm", "dgm-h-paper", "map-elites-islands", "gepa-pareto"])
@pytest.mark.parametrize("noise", ["", " - random.random()"], ids=["steady", "noisy"])
def test_a_penalty_at_the_limit_of_numbers_is_a_score(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, name: str, noise: str
) -> None:
    class Enough(Exception):
        pass

    def stop(entry: Entry) -> None:
        if entry.seq == 25:
            raise Enough

    evaluator = PENALTY.replace("import", "import random,", 1).replace("7)", f"7){noise}")
    folder = problem(evaluator, "A = 3\n")
    whole = started(folder, tmp_path / "whole", selection=name, population=8)
    chosen = settings(folder, {"evaluations": 30, "selection": name, "population": 8})
    with pytest.raises(Enough):
        optimisation.start(folder, chosen, tmp_path / "out", stop, workers=1)
    runs.resume(tmp_path / "out")
    assert records(tmp_path / "out") == whole
    assert min(each.score for each in whole if isinstance(each, Rated) and each.score is not None) < -1e308
    report = audit(tmp_path / "out")
    assert report.ok, report.findings


def test_an_initial_program_that_fails_may_be_mended(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    file.write_text("def propose(brief, rng):\n    return 'A = 7\\nB = 0.8\\n'\n")
    found = started(problem(program="A = 1 / 0\n"), tmp_path / "out", evaluations=6, proposers=[str(file)])
    first = next(record for record in found if isinstance(record, Rated))
    assert first.failure == "error" and "ZeroDivisionError" in first.detail
    assert found[-1] == RunFinished(cycles=0, champion="v1", seal="sha256")


def test_a_run_by_an_older_rule_is_neither_gone_on_with_nor_done_again(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def stop(entry: Entry) -> None:
        if entry.seq == 9:
            raise Enough

    monkeypatch.setattr(settings_, "DECISIONS", 1)
    chosen = settings(problem(), {"evaluations": 9})
    with pytest.raises(Enough):
        optimisation.start(problem(), chosen, tmp_path / "out", stop, workers=1)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="made by an older version"):
        runs.resume(tmp_path / "out")
    with pytest.raises(UsageError, match="made by an older version"):
        runs.replay(tmp_path / "out", tmp_path / "again")
    with pytest.raises(ConfigError, match="is no setting"):
        settings(problem(), {"decisions": 1})


def test_a_gain_after_hundreds_of_decisions_is_promoted(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    """What it takes is on record, and holds before the audit."""
    scattering = (
        "import random, runpy\n"
        "def evaluate(path):\n"
        "    return {'combined_score': runpy.run_path(path)['A'] + random.gauss(0, 1)}\n"
    )
    file = tmp_path / "late.py"
    file.write_text(
        "def propose(brief, rng):\n    return f'A = {100 if brief.evaluation > 420 else 0}\\nB = {brief.evaluation}\\n'\n"
    )
    given: dict[str, Any] = {
        "evaluations": 500,
        "proposers": [str(file)],
        "selection": "best",
        "in_flight": 1,
    }
    found = started(problem(scattering, "A = 0\n"), tmp_path / "out", **given)
    promoted = [record for record in found if isinstance(record, Improved) and record.decision == "promote"]
    assert len([record for record in found if isinstance(record, Improved)]) > 60
    assert promoted and len(promoted[0].candidate_scores) > 8
    report = audit(tmp_path / "out")
    assert report.ok, report.findings


def test_show_says_when_no_program_can_be_promoted_any_more(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scattering = "import random\ndef evaluate(path):\n    return {'combined_score': random.gauss(0, 1)}\n"
    for alpha, said in ((4.5e-6, True), (0.05, False)):
        out = tmp_path / str(said)
        started(problem(scattering), out, evaluations=40, alpha=alpha, fresh=12)
        assert main(["show", str(out)]) == 0
        assert ("No further program is promoted" in capsys.readouterr().out) == said


def test_changed_evaluators_are_refused(problem: Callable[..., EvaluatorFolder], tmp_path: Path) -> None:
    seen: list[Entry] = []

    class Enough(Exception):
        pass

    def stop(entry: Entry) -> None:
        seen.append(entry)
        if len(seen) == 6:
            raise Enough

    folder = problem()
    with pytest.raises(Enough):
        optimisation.start(folder, settings(folder, {"evaluations": 9}), tmp_path / "out", stop, workers=1)
    (tmp_path / "out" / "evaluator" / "evaluator.py").write_text(EVALUATOR.replace("10 -", "11 -"))
    with pytest.raises(UsageError, match="have changed since the run began"):
        runs.resume(tmp_path / "out")


def test_shinkas_folder_from_first_to_last(tmp_path: Path) -> None:
    folder = folders.shinka(FOLDERS / "sines-shinka")
    found = started(folder, tmp_path / "out", workers=2, evaluations=40)
    improved = [record for record in found if isinstance(record, Improved) and record.decision == "promote"]
    assert improved, "the coefficients can be made better"
    changed = [record for record in found if isinstance(record, VariantAdded)]
    assert all(record.level == "program" for record in changed[1:])
