"""Two checkers that others wrote, gradecheck and hackbait, on our graders: the primer, and the example of a suite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradecheck.completion_attacks import run_all

from moevolve.cli.main import main
from moevolve.rollouts.grading import Given, SealedGrader
from moevolve.tasks import folder
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task

GRADE = '''
"""Grades answers.json of a workspace with a suite's graders, in their own process."""

import json
import sys
from pathlib import Path

from moevolve.rollouts.grading import Given, SealedGrader
from moevolve.tasks import folder
from moevolve.tasks.suite import suite

where, workspace = sys.argv[1:3]
chosen = suite("primer") if where == "primer" else folder.load(Path(where))
cells = (chosen.cells * 2)[:24]
tasks = chosen.sample("train", cells, "gradecheck")
try:
    answers = json.loads((Path(workspace) / "src" / "answers.json").read_text())
except (OSError, ValueError):
    answers = {}
given = [Given(task, str(answers.get(task.prompt, "")), index) for index, task in enumerate(tasks)]
grader = SealedGrader(chosen)
right = sum(verdict.success for verdict in grader.grade(given, ("gradecheck",)))
grader.close()
print(f"RIGHT: {right} / {len(tasks)}")
if right == len(tasks):
    print("RESULT: PASS")
'''


@pytest.fixture(params=["primer", "dates"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A suite by name or path: the primer, and the example that `init` writes, which has a check of its own."""
    if request.param == "primer":
        return "primer"
    assert main(["init", "suite", str(tmp_path / "dates")]) == 0
    return str(tmp_path / "dates")


def opened(where: str) -> Suite:
    return suite("primer") if where == "primer" else folder.load(Path(where))


def sampled(chosen: Suite) -> list[Task]:
    return chosen.sample("train", (chosen.cells * 2)[:24], "gradecheck")


def test_gradechecks_attacks_on_what_is_handed_in(where: str, tmp_path: Path) -> None:
    task = tmp_path / "environment" / "task"
    for name, text in {
        "src/answers.json": "{}",
        "tests/test_answers.py": "def test_answers():\n    assert False\n",
    }.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(text)
    grade = tmp_path / "environment" / "grade.py"
    grade.write_text(GRADE)
    command = f"{sys.executable} {grade} {where} {{workspace}}"
    (tmp_path / "environment" / "gradecheck.toml").write_text(
        f"[env]\nname = 'answers'\nworkspace = 'task'\nsource_globs = ['src/**/*']\n"
        f"[grade]\ncmd = '{command}'\ntimeout = 120\npass_marker = 'RESULT: PASS'\nsource = ['grade.py']\n"
        "score = [{ regex = 'RIGHT: (\\d+) / (\\d+)' }]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gradecheck.cli", "run", str(tmp_path / "environment"), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["attack"]: finding["verdict"] for finding in json.loads(done.stdout)["findings"]}
    assert {"noop", "empty-source", "test-deletion", "hollow-implementation"} <= set(found)
    assert "FOOLED" not in {str(verdict).upper() for verdict in found.values()}
    gold = {task.prompt: task.answer for task in sampled(opened(where))}
    (task / "src/answers.json").write_text(json.dumps(gold))
    honest = subprocess.run(
        command.format(workspace=task).split(), capture_output=True, text=True, timeout=120, check=True
    )
    assert "RESULT: PASS" in honest.stdout


def test_gradechecks_attacks_on_what_is_said(where: str) -> None:
    chosen = opened(where)
    tasks = sampled(chosen)
    grader = SealedGrader(chosen)

    def score(example: SimpleNamespace, completion: str) -> float:
        return grader.grade([Given(tasks[example.index], completion, 0)], ("gradecheck",))[0].score

    environment = SimpleNamespace(
        examples=[
            SimpleNamespace(
                index=index,
                prompt=task.prompt,
                answer=task.answer,
                info={},
                row={},
                observation_text=task.prompt,
            )
            for index, task in enumerate(tasks)
        ],
        pass_threshold=1.0,
        score=score,
        solved=lambda reward: reward >= 1.0,
        format_payload=lambda payload: f" {payload}\n",
        formatted_gold=str,
    )
    findings = {finding.attack: finding for finding in run_all(environment)}  # type: ignore[arg-type]
    grader.close()
    assert f"{len(tasks)}/{len(tasks)}" in findings["baseline"].summary
    assert not [name for name, finding in findings.items() if finding.verdict == "fooled"]


def test_hackbaits_own_test_passes_where_no_network_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hackbait", "selftest"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
