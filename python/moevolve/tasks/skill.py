"""A leaf of the skill tree: a path, a generator of tasks, and how their answers are graded."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.grading import grade
from moevolve.tasks.listed import Listed
from moevolve.tasks.splits import Families
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
        truth: prompt of its verb -> the right answer, None where the prompt is none; so that a part of an answer can
            be confirmed as an answer of its own.
        families: its prompts that stay in one split; None where each prompt's text decides for itself.
        listed: its tasks one by one, where it has so many and no more; None where the generator makes them without end.
    """

    path: str
    summary: str
    generator: Generator
    levels: tuple[int, int] = LEVELS
    verb: str = ""
    alphabet: str | None = None
    listed: Listed | None = None
    families: Families | None = None
    truth: Callable[[str], str | None] | None = None

    def keyed(self, secret: bytes) -> Skill:
        """The skill with its listed tasks put into splits by a secret."""
        if self.listed is None:
            return self
        tasks = self.listed.keyed(secret)
        return msgspec.structs.replace(self, listed=tasks, generator=tasks.generate)

    def within(self, levels: tuple[int, int]) -> Skill:
        """The skill with the levels that it shares with `levels`.

        Raises:
            UsageError: it shares none.
        """
        low, high = max(levels[0], self.levels[0]), min(levels[1], self.levels[1])
        if low > high:
            raise UsageError(
                f"skill {self.path} has levels {self.levels[0]} to {self.levels[1]}, none of suite.levels = {list(levels)}"
            )
        return msgspec.structs.replace(self, levels=(low, high))

    def generate(self, rng: Random, level: int, seed: int | None = None) -> Task:
        """A task as the generator makes it, without skill, level and seed.

        Args:
            rng: what it is drawn from.
            level: its level.
            seed: the seed of `rng`, for messages.

        Raises:
            UsageError: no such level, or the generator raised, or returned something that is not a task.
        """
        low, high = self.levels
        if not low <= level <= high:
            raise UsageError(f"skill {self.path} has levels {low} to {high}, not {level}")
        try:
            task = self.generator(rng, level)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            named = "" if seed is None else f", task {self.path}/{level}/{seed}"
            raise UsageError(
                f"the generator of {self.path} raised {type(error).__name__}: {error} ({where.filename}, line "
                f"{where.lineno}, in {where.name}; level {level}{named})"
            ) from error
        if not isinstance(task, Task):
            raise UsageError(
                f"the generator of {self.path} returned {type(task).__name__}; it must return mv.Task(...)"
            )
        for name, text in (("prompt", task.prompt), ("answer", task.answer or "")):
            if not isinstance(text, str) or not _is_unicode(text):
                raise UsageError(
                    f"the generator of {self.path} returned a task whose {name} is no text of Unicode: {str(text)[:60]!r}"
                )
        return task

    def task(self, level: int, seed: int) -> Task:
        """The task that (this skill, level, seed) names."""
        made = (
            self.generate(Random(seed), level, seed)
            if self.listed is None
            else self.listed.named(level, seed)
        )
        return msgspec.structs.replace(made, skill=self.path, level=level, seed=seed)

    def grade(self, task: Task, answer: str, workspace: Path | None = None) -> Verdict:
        """Grades an answer to one of this skill's tasks, with what the attempt left."""
        return grade(task, answer, self.alphabet, workspace)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
