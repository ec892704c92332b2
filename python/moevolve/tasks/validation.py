"""Every suite proves itself: gold answers score 1, cheap answers do not, splits share nothing, seeds repeat.

Published graders have failed in these ways: one accepts any non-empty string, one gives credit for a prefix,
one set of answers is so skewed that a constant passes half of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from moevolve.errors import UsageError
from moevolve.randomness import key, rng
from moevolve.tasks.grading import BROKEN, CHECK_TIMEOUT, hopeless
from moevolve.tasks.splits import SPLITS
from moevolve.tasks.task import Task, Verdict

if TYPE_CHECKING:
    from moevolve.tasks.suite import Suite

Judge = Callable[[Sequence[tuple[Task, str]]], list[Verdict]]

CONSTANT_LIMIT = 0.2
"""No answer that ignores the prompt may reach this mean score on a leaf."""
LISTED_LIMIT = 0.5
"""The same for listed tasks, which often choose among few answers: the best one is told whatever it scores."""
CONSTANTS = 8
"""How many of a leaf's commonest answers are tried as constants, beside `CHEAP`."""
CHEAP = ("", "0", "1", "a", "yes", "no", "True", "None")
PROBED = 100
"""Tasks that cheap answers are tried on where a process grades each."""
GLANCED = 20
"""Tasks, drawn from these, that all cheap answers are tried on; the best `FINALISTS` answers are tried on all."""
FINALISTS = 2
SPACE = 200
"""Distinct tasks that a level needs, so that four splits of it can be drawn from."""


class LeafReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one leaf."""

    path: str
    tasks: int
    prompts: int
    """Tasks that differ, at the lowest level, the smallest space."""
    gold: float | None
    """Mean score of the gold answers; None where tasks carry a check instead."""
    constant: float
    """Mean score of the best constant answer."""
    constant_answer: str
    problems: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about a suite."""

    suite: str
    leaves: tuple[LeafReport, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """One sentence a fault, each beginning with the leaf's path."""
        return [f"{leaf.path}: {problem}" for leaf in self.leaves for problem in leaf.problems]


def validate(suite: Suite, samples: int = 400, judge: Judge | None = None) -> Report:
    """Draws `samples` tasks from every leaf, over all levels and splits, and looks for faults.

    Args:
        suite: the suite to prove.
        samples: tasks a leaf; constants are judged more sharply with more of them.
        judge: grades answers to tasks that a user's own code judges; None runs that code here.

    Raises:
        UsageError: `samples` is below 1, or checks do not end.
    """
    if samples < 1:
        raise UsageError(f"samples {samples}: a proof needs at least 1 task of each skill")
    leaves = tuple(_leaf(suite, path, samples, judge) for path in suite.skills)
    return Report(suite=suite.name, leaves=leaves)


class _Grader:
    """A suite's grader that remembers which tasks' checks failed whatever the answer was."""

    def __init__(self, suite: Suite, judge: Judge | None) -> None:
        self._suite = suite
        self._judge = judge
        self._judged: set[str] = set()
        self._broken: dict[str, tuple[Task, Verdict]] = {}

    def grade(self, graded: Sequence[tuple[Task, str]]) -> list[Verdict]:
        """Verdicts on answers."""
        if self._judge is not None and any(task.judged for task, _ in graded):
            verdicts = self._judge(graded)
        else:
            verdicts = [self._suite.grade(task, answer) for task, answer in graded]
        hung = [
            (task, verdict)
            for (task, _), verdict in zip(graded, verdicts, strict=True)
            if verdict.failure == CHECK_TIMEOUT
        ]
        if hopeless(verdicts) or (hung and len(hung) == len(verdicts)):
            # Further answers would take as long each, and there are thousands of them.
            task, verdict = hung[0]
            raise UsageError(
                f"the checks of {len(hung)} of {len(verdicts)} answers to tasks of {task.skill} did not end, first that of "
                f"task {task.called!r}: {verdict.detail}. Nothing more was tried: have the check end, or give it more "
                f"time ([limits] check_seconds in suite.toml)"
            )
        for (task, _), verdict in zip(graded, verdicts, strict=True):
            if verdict.failure not in BROKEN:
                self._judged.add(task.id)
            self._broken.setdefault(task.id, (task, verdict))
        return verdicts

    def mean(self, graded: Sequence[tuple[Task, str]]) -> float:
        """Mean score of answers."""
        return sum(verdict.score for verdict in self.grade(graded)) / len(graded)

    def forks(self, tasks: Sequence[Task]) -> bool:
        """Whether each answer to such tasks takes a process."""
        return self._judge is not None and any(task.judged for task in tasks)

    def probed(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The tasks that cheap answers are tried on: all of them, or `PROBED` where each answer takes a process."""
        return tasks[:: -(-len(tasks) // PROBED)] if self.forks(tasks) else tasks

    def problems(self) -> list[str]:
        """What is said of tasks that no answer can pass, as their check judged none."""
        broken = [first for name, first in self._broken.items() if name not in self._judged]
        if not broken:
            return []
        task, verdict = broken[0]
        detail = (verdict.detail or str(verdict.failure)).rpartition("\n")[2].strip()
        return [
            f"the check failed on every answer to {len(broken)} of {len(self._broken)} tasks, first to task "
            f"{task.called!r}: {detail}"
        ]


def _leaf(suite: Suite, path: str, samples: int, judge: Judge | None) -> LeafReport:
    skill = suite[path]
    if skill.listed is not None:
        return _listed(suite, path, judge)
    low, high = skill.levels
    problems: list[str] = []
    tasks: list[Task] = []
    homes: dict[str, str] = {}
    for index in range(samples):
        level = low + index % (high - low + 1)
        split = SPLITS[index // (high - low + 1) % len(SPLITS)]
        task = suite.draw(split, path, level, "validate", index)
        tasks.append(task)
        if homes.setdefault(task.identity, split) != split or suite.split_of(task.identity) != split:
            problems.append(f"{task.prompt!r} came in split {split} and belongs to {homes[task.identity]}")
        if not task.prompt:
            problems.append(f"empty prompt at level {level}")

    if any(_differs(task, suite.task(path, task.level, task.seed)) for task in tasks):
        problems.append("one (level, seed) gave two tasks: the generator must draw from its rng alone")

    prompts = len({skill.task(low, key("validate", path, draw)).identity for draw in range(4 * SPACE)})
    if prompts < SPACE:
        problems.append(f"about {prompts} distinct prompts at level {low}; {SPACE} are needed")

    grader = _Grader(suite, judge)
    golds = [(task, task.answer) for task in tasks if task.answer is not None]
    gold = None
    if golds:
        gold = grader.mean(golds)
        if gold < 1.0:
            problems.append(f"gold answers score {gold:.3f}, not 1")

    constant, answer = _best_constant(grader, tasks)
    problems += grader.problems()
    if constant >= CONSTANT_LIMIT:
        problems.append(
            f"the constant answer {answer!r} scores {constant:.2f}; below {CONSTANT_LIMIT} is wanted"
        )
    return LeafReport(
        path=path,
        tasks=len(tasks),
        prompts=prompts,
        gold=gold,
        constant=constant,
        constant_answer=answer,
        problems=tuple(dict.fromkeys(problems)),
    )


def _listed(suite: Suite, path: str, judge: Judge | None) -> LeafReport:
    """What was found about a skill whose tasks are listed: all of them are tried."""
    skill = suite[path]
    assert skill.listed is not None
    named = [
        skill.task(level, seed) for level, tasks in skill.listed.tasks.items() for seed in range(len(tasks))
    ]
    problems, grader = [], _Grader(suite, judge)
    gold, wrong = None, []
    if golds := [task for task in named if task.answer is not None]:
        given = [(task, task.answer or "") for task in golds]
        verdicts = list(zip(golds, grader.grade(given), strict=True))
        gold = sum(verdict.score for _, verdict in verdicts) / len(verdicts)
        wrong = [(task, verdict) for task, verdict in verdicts if not verdict.success]
    if wrong:
        task, verdict = wrong[0]
        problems.append(
            f"{len(wrong)} of {len(golds)} gold answers are no success, first that of task {task.called!r}: "
            f"{verdict.detail or verdict.failure or verdict.score}"
        )
    constant, answer = _best_constant(grader, named)
    echo = grader.mean([(task, task.prompt) for task in grader.probed(named)])
    problems += grader.problems()
    if echo > constant:
        constant, answer = echo, "(the prompt)"
    if constant >= LISTED_LIMIT:
        problems.append(f"the cheap answer {answer!r} scores {constant:.2f}; below {LISTED_LIMIT} is wanted")
    return LeafReport(
        path=path,
        tasks=len(named),
        prompts=len({task.identity for task in named}),
        gold=gold,
        constant=constant,
        constant_answer=answer,
        problems=tuple(problems),
    )


def _differs(first: Task, second: Task) -> bool:
    """Whether two tasks of one name differ; checks are functions, whose identity says nothing."""
    return (first.identity, first.answer) != (second.identity, second.answer)


def _best_constant(grader: _Grader, tasks: list[Task]) -> tuple[float, str]:
    common = Counter(task.answer for task in tasks if task.answer is not None).most_common(CONSTANTS)
    answers = [*dict.fromkeys([*(answer for answer, _ in common if answer is not None), *CHEAP])]

    def ranked(answers: list[str], tasks: Sequence[Task]) -> list[tuple[float, str]]:
        scores = [(grader.mean([(task, answer) for task in tasks]), answer) for answer in answers]
        return sorted(scores, key=lambda scored: -scored[0])

    probed = grader.probed(tasks)
    if grader.forks(probed) and len(probed) > GLANCED:
        # By chance: lists of tasks go round by kind, so that every fifth may be of one.
        glanced = rng("validate", "glance", len(probed)).sample(probed, GLANCED)
        answers = [answer for _, answer in ranked(answers, glanced)[:FINALISTS]]
    return ranked(answers, probed)[0]
