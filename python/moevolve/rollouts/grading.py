"""Who decides whether an attempt succeeded: the suite's sealed grader, or a coin in the random-reward arm."""

from __future__ import annotations

from typing import Protocol

from moevolve.randomness import rng
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict


class Grader(Protocol):
    """Turns an answer into a verdict."""

    def grade(self, task: Task, answer: str, stage: tuple[int | str, ...], index: int) -> Verdict: ...


class SealedGrader:
    """The suite's own graders; nothing a variant can edit runs here."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def grade(self, task: Task, answer: str, stage: tuple[int | str, ...], index: int) -> Verdict:
        return self._suite.grade(task, answer)


class CoinGrader:
    """A fair coin that looks at nothing but the attempt's key: the null of every claim about reward."""

    def grade(self, task: Task, answer: str, stage: tuple[int | str, ...], index: int) -> Verdict:
        heads = rng("coin", *stage, index).random() < 0.5
        return Verdict(score=float(heads), success=heads, failure=None if heads else "wrong", detail="coin")
