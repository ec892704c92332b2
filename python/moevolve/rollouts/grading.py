"""Who decides whether an attempt succeeded: the suite's graders, or a coin in the random-reward arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from moevolve.agents.box.workspace import Workspace
from moevolve.config import SandboxSection
from moevolve.randomness import rng
from moevolve.rollouts.grader import GraderProcess
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict


class Given(msgspec.Struct, frozen=True):
    """An answer that waits for its verdict."""

    task: Task
    answer: str
    index: int
    """Of the attempt in its request."""
    workspace: Workspace | None = None
    """What the attempt left, where it had a box of its own."""


class Grader(Protocol):
    """Turns answers into verdicts, one variant's of one request at a time."""

    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]: ...


class SealedGrader:
    """The suite's own graders, in a process of their own; nothing that a variant can edit runs there.

    Args:
        suite: whose tasks are graded.
        sandbox: bounds of the process.
    """

    def __init__(self, suite: Suite, sandbox: SandboxSection | None = None) -> None:
        self._process = GraderProcess(suite, sandbox or SandboxSection())

    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]:
        return self._process.grade(
            [(each.task, each.answer) for each in given], [each.workspace for each in given]
        )

    def start(self) -> None:
        """Starts the process, so that it is warm when the first answers come.

        Raises:
            UsageError: a check of the suite's folder cannot be imported; says why.
        """
        self._process.start()
        self.prove()

    def prove(self) -> None:
        """Sees that the suite's checks can be imported, without starting more; errors as of `start`."""
        self._process.prove()

    def close(self) -> None:
        """Ends the process; more answers would start another."""
        self._process.close()


class GoldGrader:
    """Compares with the gold answer that a task carries: for tasks that were altered, so that their names make other ones.

    Args:
        suite: whose rules about answers hold. No code of a user's runs: such tasks have no check.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]:
        return [self._suite.grade(each.task, each.answer) for each in given]


class CoinGrader:
    """A fair coin that looks at nothing but the attempt's key: the null of every claim about reward."""

    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]:
        return [self._toss(each.index, stage) for each in given]

    def _toss(self, index: int, stage: tuple[int | str, ...]) -> Verdict:
        heads = rng("coin", *stage, index).random() < 0.5
        return Verdict(score=float(heads), success=heads, failure=None if heads else "wrong", detail="coin")
