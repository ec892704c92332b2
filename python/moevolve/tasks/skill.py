"""A leaf of the skill tree: a path, a generator of tasks, and how their answers are graded."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.grading import grade
from moevolve.tasks.task import Task, Verdict

LEVELS = (1, 16)

Generator = Callable[[Random, int], Task]

_PATH = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)+")


def check_path(path: str) -> str:
    """Returns `path` if it can name a leaf.

    Raises:
        UsageError: it is not lower-case words joined by `/`, at least two of them.
    """
    if not _PATH.fullmatch(path):
        raise UsageError(
            f"{path!r} cannot name a skill: lower-case words (a-z, 0-9, _) joined by '/', such as text/rot13"
        )
    return path


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf of the tree.

    Attributes:
        path: its place, such as `text/reverse`.
        summary: what it asks, in one line.
        generator: (generator of randomness, level) -> a task with its prompt and its answer or check.
        levels: the lowest and the highest level.
        verb: the word its prompts begin with, or "".
        alphabet: the characters answers are made of; None allows all.
    """

    path: str
    summary: str
    generator: Generator
    levels: tuple[int, int] = LEVELS
    verb: str = ""
    alphabet: str | None = None

    def generate(self, rng: Random, level: int) -> Task:
        """A task as the generator makes it, without skill, level and seed.

        Raises:
            UsageError: no such level, or the generator returned something that is not a task.
        """
        low, high = self.levels
        if not low <= level <= high:
            raise UsageError(f"skill {self.path} has levels {low} to {high}, not {level}")
        task = self.generator(rng, level)
        if not isinstance(task, Task):
            raise UsageError(
                f"the generator of {self.path} returned {type(task).__name__}; it must return mv.Task(...)"
            )
        return task

    def task(self, level: int, seed: int) -> Task:
        """The task that (this skill, level, seed) names."""
        made = self.generate(Random(seed), level)
        return msgspec.structs.replace(made, skill=self.path, level=level, seed=seed)

    def grade(self, task: Task, answer: str) -> Verdict:
        """Grades an answer to one of this skill's tasks."""
        return grade(task, answer, self.alphabet)
