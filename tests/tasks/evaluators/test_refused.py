"""Machines that offer namespaces by halves, or none: evaluations run all the same, and the run says what there is not."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from moevolve.errors import SafetyError
from moevolve.journal.store import RunStore
from moevolve.loop import run as runs
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.optimise import workers
from moevolve.loop.optimise.settings import settings
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators import process as processes
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.inside import walls
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess

LIMITS = EvaluatorLimits(seconds=5, memory_mb=512, processes=8)
REFUSING = """
import sys
sys.path[:0] = {{path!r}}
from moevolve.tasks.evaluators.inside import server, walls
def refusing(call, refused):
    def called(*given):
        if refused(*given):
            raise walls.WallError(1, "refused here")
        return call(*given)
    return called
{patch}
server.main({{channel}})
"""
REFUSED = {
    "the map of users": "walls._write = refusing(walls._write, lambda path, text: path.endswith('uid_map'))",
    "every mount": "walls._mount = refusing(walls._mount, lambda *given: True)",
}
NO_PROC = "walls._mount = refusing(walls._mount, lambda source, target, kind, *rest: kind == 'proc')"
EVALUATOR = """
import os, pathlib, resource, runpy
def evaluate(path):
    before = len(os.listdir())
    pathlib.Path("beside").write_text("1")
    pathlib.Path(__file__).write_text("")
    space = runpy.run_path(path)
    return {
        "combined_score": float(space["A"]),
        "before": before,
        "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
    }
"""


@pytest.fixture
def folder(tmp_path: Path) -> EvaluatorFolder:
    path = tmp_path / "problem"
    path.mkdir()
    (path / "initial_program.py").write_text("A = 3\n")
    (path / "evaluator.py").write_text(EVALUATOR)
    return folders.openevolve(path)


def machine(monkeypatch: pytest.MonkeyPatch, patch: str) -> None:
    """Lets evaluators' processes meet a kernel that refuses something."""
    monkeypatch.setattr(processes, "BOOT", REFUSING.format(patch=patch))


def skip_without_namespaces(folder: EvaluatorFolder) -> None:
    with EvaluatorProcess(folder, LIMITS) as process:
        process.start()
        if process.missing:
            pytest.skip(f"no namespaces here: {process.missing}")


@pytest.mark.parametrize("what", list(REFUSED))
def test_namespaces_by_halves_are_none(
    folder: EvaluatorFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    skip_without_namespaces(folder)
    machine(monkeypatch, REFUSED[what])
    with EvaluatorProcess(folder, LIMITS) as process:
        assert [process.evaluate(f"A = {number}\n").score for number in range(3)] == [0.0, 1.0, 2.0]
        assert "refused here" in process.missing
    strict = EvaluatorLimits(strict=True)
    with pytest.raises(SafetyError, match="no namespaces: .*refused here"):
        EvaluatorProcess(folder, strict).start()


def test_whoever_tries_them_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object) -> None:
        raise walls.WallError(1, "refused here")

    monkeypatch.setattr(walls, "_mount", refused)
    before = namespaces()
    assert walls.refused([])
    assert namespaces() == before


def namespaces() -> list[Path]:
    """Those of this process, and that of its children."""
    return [Path(f"/proc/self/ns/{name}").readlink() for name in ("user", "mnt", "pid_for_children")]


class TestWithoutNamespaces:
    def test_nothing_bounds_what_else_the_user_runs(self, folder: EvaluatorFolder) -> None:
        """The kernel counts all processes of a user by this limit, and the watch those of the evaluation."""
        with EvaluatorProcess(folder, LIMITS, walls=False) as process:
            found = process.evaluate("A = 1\n")
        assert found.metrics["processes"] == resource.getrlimit(resource.RLIMIT_NPROC)[1]

    def test_each_evaluation_has_the_folder_as_it_is(self, folder: EvaluatorFolder) -> None:
        """An evaluator that writes beside itself, and over itself, does so in a copy."""
        with EvaluatorProcess(folder, LIMITS, walls=False) as process:
            assert [process.evaluate("A = 1\n").metrics["before"] for _ in range(3)] == [2, 2, 2]
        assert sorted(path.name for path in folder.path.iterdir()) == ["evaluator.py", "initial_program.py"]
        assert (folder.path / "evaluator.py").read_text() == EVALUATOR

    def test_nothing_is_left_of_the_copy(
        self, folder: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment = EvaluatorProcess._environment
        monkeypatch.setattr(
            EvaluatorProcess,
            "_environment",
            lambda self, path: environment(self, path) | {"TMPDIR": str(scratch)},
        )
        with EvaluatorProcess(folder, LIMITS, walls=False) as process:
            assert (
                process.evaluate("A = 1\nimport os\nos.mkdir('closed')\nos.chmod('closed', 0)\n").score == 1
            )
            assert len(list(scratch.iterdir())) == 1
        assert not list(scratch.iterdir())

    def test_a_run_is_replayed_whatever_its_evaluator_writes(
        self, folder: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Unwalled(EvaluatorProcess):
            def __init__(self, folder: EvaluatorFolder, limits: EvaluatorLimits) -> None:
                super().__init__(folder, limits, walls=False)

        monkeypatch.setattr(workers, "EvaluatorProcess", Unwalled)
        out = optimisation.start(folder, settings(folder, {"evaluations": 6}), tmp_path / "out", workers=1)
        recorded, replayed = runs.replay(out, tmp_path / "again")
        assert recorded == replayed


class TestNamespacesWithoutProc:
    """A container that hides parts of its own /proc allows no new one."""

    def test_what_is_left_is_seen_by_its_parent(
        self, folder: EvaluatorFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        skip_without_namespaces(folder)
        machine(monkeypatch, NO_PROC)
        with EvaluatorProcess(folder, LIMITS) as process:
            left = process.evaluate("A = 1\nimport subprocess\nsubprocess.Popen(['sleep', '1000'])\n")
            assert left.failure == "left_processes"
            assert process.evaluate("A = 2\n").score == 2.0
            assert not process.missing and "/proc" in process.unseen

    def test_the_run_says_so(
        self, folder: EvaluatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        skip_without_namespaces(folder)
        machine(monkeypatch, NO_PROC)
        out = optimisation.start(folder, settings(folder, {"evaluations": 3}), tmp_path / "out", workers=1)
        with RunStore.open(out) as store:
            sandbox = store.sandbox()
        assert sandbox is not None and "/proc" in sandbox.missing
        strict = settings(folder, {"limits.strict": True})
        with pytest.raises(SafetyError, match="no processes to be seen"):
            optimisation.start(folder, strict, tmp_path / "strict")
