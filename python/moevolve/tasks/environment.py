"""Environments: tasks of many turns, whose world changes by the tools that an attempt calls, and is judged in the end.

    class Desk(mv.Environment):
        def setup(self, task):
            self.tickets = dict(task["tickets"])

        def close(self, number: int) -> str:
            \"\"\"Close a ticket.\"\"\"
            return self.tickets.pop(number)

        def score(self, task, answer):
            return float(not self.tickets)

Its public methods are the tools. A world runs beside the host while an attempt calls it, and once more in the grader's
process: there the attempt's calls, as the host counted them, lead to the end state that `score` judges. So nothing of a
world need travel, and what it does may depend on its task, its calls and `rng` alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from moevolve.errors import UsageError
from moevolve.protocol.requests import Call
from moevolve.randomness import key
from moevolve.tasks.tools.worker import called

if TYPE_CHECKING:
    from moevolve.tasks.task import Task, Verdict


class Environment:
    """The world of one attempt. A class of one's own says how it begins, what can be done in it, what its end is worth."""

    steps = 64
    """Most calls of an attempt; further ones are refused."""
    rng: Random
    """A source of randomness: a task's world draws the same every time."""

    def setup(self, task: Mapping[str, Any]) -> None:
        """Begins. `task` has `prompt`, `skill`, and whatever else its author wrote beside it."""

    def score(self, task: Mapping[str, Any], answer: str) -> float | Verdict:
        """What the end state and the answer are worth, from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} has no score(task, answer)")

    def done(self) -> bool:
        """Whether the task is over, so that nothing more can be done."""
        return False


class TaskOver(Exception):
    """A call after the end of a task."""


class World:
    """One environment under way.

    Args:
        kind: its class.
        task: as of `Environment.setup`.
    """

    def __init__(self, kind: type[Environment], task: Mapping[str, Any]) -> None:
        self.environment = kind()
        self.environment.rng = Random(key("environment", str(task.get("prompt", ""))))
        self._steps = 0
        self.environment.setup(task)

    def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """The result of a call.

        Raises:
            TaskOver: the task is over, or the attempt has had its steps.
            Exception: whatever the method raises.
        """
        if self._steps >= self.environment.steps:
            raise TaskOver(f"this task allows {self.environment.steps} calls")
        if self.environment.done():
            raise TaskOver("the task is over")
        self._steps += 1
        return called(getattr(self.environment, tool), arguments)


class Trajectory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an attempt came to in an environment, as the host tells the grader."""

    answer: str
    calls: list[Call]

    def text(self) -> str:
        """The trajectory in place of an answer."""
        return msgspec.json.encode(self).decode()


def tools_of(kind: type[Environment]) -> list[str]:
    """Names of a class's tools: its public methods beyond those of every environment."""
    return sorted(
        name
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and not hasattr(Environment, name)
    )


def kinds_in(values: Mapping[str, Any]) -> dict[str, type[Environment]]:
    """The environments among what a file defines, by name."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, type) and issubclass(value, Environment) and value is not Environment
    }


def described(task: Task) -> dict[str, Any]:
    """A task as its environment is told of it."""
    return {**task.fields, "prompt": task.prompt, "skill": task.skill}


def graded(task: Task, answer: str) -> float | Verdict:
    """The score of a trajectory, whose calls are made once more; of a mere text, that of an attempt which called nothing.

    Raises:
        Exception: whatever the environment's own code raises in `setup` or `score`.
    """
    if task.environment is None:
        raise UsageError(f"task {task.id} has no environment")
    try:
        told = msgspec.json.decode(answer, type=Trajectory)
    except msgspec.DecodeError:
        told = Trajectory(answer, [])
    about = described(task)
    world = World(task.environment, about)
    for tool, arguments in told.calls:
        # That a call raised was told when it was made.
        with suppress(Exception):
            world.call(tool, arguments)
    return world.environment.score(about, told.answer)


__all__: Sequence[str] = ("Environment", "Trajectory", "World", "graded", "tools_of")
