"""Five ways to fool a grader without doing the task, tried on every suite that ships: submit what was given, submit nothing,
delete or empty the tests, copy an answer that lies about, and repeat what the grader's source seems to look for."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from random import Random

import pytest
from judge import PRIMER, attempted, tasks_of

import moevolve
from moevolve.errors import UsageError
from moevolve.rollouts.grading import Given, SealedGrader
from moevolve.tasks import folder
from moevolve.tasks.grader.seal import OWN, seal
from moevolve.tasks.grading import CHECK_ERROR
from moevolve.tasks.skill import Skill
from moevolve.tasks.suite import SUITES, Suite, suite
from moevolve.tasks.task import Task

PACKAGE = Path(moevolve.__file__).parent
SHIPPED = {name: suite(name) for name in SUITES if name != "user"}
LEAST = 2
"""Characters of a text in the source that is no mere digit or letter: those are answers of some tasks."""


def successes(which: Suite, answers: list[str]) -> int:
    judge = SealedGrader(which)
    tasks = which.sample("gate", [cell for cell in which.cells if cell[1] > 2], "attacks")
    given = [Given(task, answer, 0) for task in tasks for answer in answers]
    found = judge.grade(given, (1,))
    judge.close()
    return sum(verdict.success for verdict in found)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_was_given_is_no_answer(name: str) -> None:
    which = SHIPPED[name]
    judge = SealedGrader(which)
    tasks = which.sample("gate", [cell for cell in which.cells if cell[1] > 2], "attacks")
    given = [
        Given(task, answer, 0)
        for task in tasks
        for payload in [task.prompt.partition(":")[2].removesuffix("=")]
        for answer in (task.prompt, payload)
        if answer != task.answer
    ]
    assert not any(verdict.success for verdict in judge.grade(given, (1,)))
    judge.close()


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_nothing_is_no_answer(name: str) -> None:
    assert successes(SHIPPED[name], ["", " ", "\n", "\0", "pass", "{}", "[]", "null", "PASS", "Done."]) == 0


@pytest.mark.parametrize("text", [None, "", "def check(task, answer, workspace):\n    return 1.0\n"])
def test_a_suite_whose_check_was_deleted_or_emptied_is_another_suite(
    text: str | None, tmp_path: Path
) -> None:
    root = tmp_path / "own"
    root.mkdir()
    (root / "tasks.jsonl").write_text(
        "".join(f'{{"id": "t{n}", "prompt": "Say {n} twice", "twice": {2 * n}}}\n' for n in range(12))
    )
    (root / "check.py").write_text(
        'def check(task, answer, workspace):\n    return float(int(answer) == task["twice"])\n'
    )
    before, digest = folder.opened(root, "own")
    sealed = seal(before)
    if text is None:
        (root / "check.py").unlink()
    else:
        (root / "check.py").write_text(text)
    if not text:
        with pytest.raises(UsageError):
            folder.opened(root, "own")
        return
    after, changed = folder.opened(root, "own")
    assert changed != digest
    assert seal(after) != sealed


READ = """
import os
async def solve(task, agent):
    found = []
    for place in PLACES:
        try:
            found.append(open(place).read() if not os.path.isdir(place) else str(os.listdir(place)))
        except OSError:
            pass
    return "".join(found) or "nothing"
"""


def spoken(rng: Random, level: int) -> Task:
    word = "".join(rng.choices("abcdefghij", k=12))
    return Task(prompt=f"Turn {word} round", answer=word[::-1])


def test_no_answer_lies_about_where_a_program_runs(tmp_path: Path) -> None:
    own = Suite("own", [Skill(path="own/turn", summary="turn it", generator=spoken, levels=(1, 1))])
    (tmp_path / "answers.txt").write_text("the answer")
    places = [
        str(tmp_path),
        str(tmp_path / "answers.txt"),
        str(PACKAGE),
        *(str(PACKAGE / name) for name in OWN),
    ]
    places += [inspect.getfile(spoken), "/proc/self/environ", "/proc/1/environ", str(Path.home())]
    judge = SealedGrader(own)
    tasks = own.sample("gate", [("own/turn", 1)] * 4, "attacks")
    found = attempted(READ.replace("PLACES", repr(places)), tasks, which=own, judge=judge)
    judge.close()
    assert [attempt.answer for attempt in found.attempts] == ["nothing"] * 4


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_the_graders_source_says_is_no_answer(name: str) -> None:
    sources = [PACKAGE / each for each in OWN] + sorted((PACKAGE / "tasks" / "primer").glob("*.py"))
    texts = {
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) >= LEAST
    }
    assert len(texts) > 100
    assert successes(SHIPPED[name], sorted(texts)[:400]) == 0


def test_a_check_that_runs_what_an_answer_says_gives_it_no_more_than_its_own_verdict() -> None:
    """A grader that evaluates answers is its author's fault; its process keeps that from the other verdicts."""

    def evaluated(rng: Random, level: int) -> Task:
        n = rng.randrange(10**6)
        return Task(prompt=f"Say {n}", grade=lambda answer: float(eval(answer) == n))  # noqa: S307

    own = Suite("own", [Skill(path="own/eval", summary="say it", generator=evaluated, levels=(1, 1))])
    tasks = own.sample("gate", [("own/eval", 1)] * 4, "attacks")
    poison = (
        "[setattr(c, '__eq__', lambda *_: True) for c in ().__class__.__base__.__subclasses__() if 'Task' in str(c)] "
        "and __import__('builtins').__dict__.update(float=lambda *_: 1.0) or 0"
    )
    judge = SealedGrader(own)
    found = judge.grade(
        [Given(task, answer, 0) for task, answer in zip(tasks, (poison, "0", poison, "1"), strict=True)], (1,)
    )
    judge.close()
    assert [found[1].success, found[3].success] == [False, False]
    assert found[1].failure == found[3].failure == "wrong"
    assert found[0].failure in (CHECK_ERROR, "wrong", None)


def test_the_suites_that_ship_prove_themselves() -> None:
    for which in SHIPPED.values():
        assert which.validate(60).ok
    assert tasks_of()[0].skill in PRIMER.skills
