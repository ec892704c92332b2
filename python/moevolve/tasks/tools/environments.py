"""A suite's environments, seen from the host: one process for all of them, started again when a call kills it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest
from moevolve.tasks.environment import described
from moevolve.tasks.task import Task
from moevolve.tasks.tools.process import CallFailed, ToolProcess
from moevolve.tasks.tools.worlds import BEGIN


class Environments:
    """Worlds of attempts, by the attempts' keys.

    Args:
        file: the Python file that defines their classes.
    """

    def __init__(self, file: Path) -> None:
        self._process = ToolProcess([file], module="moevolve.tasks.tools.worlds")
        self._tasks: dict[int, Task] = {}
        self._past: dict[int, list[ToolRequest]] = {}
        """Calls of an attempt, made or found on record."""
        self._here: dict[int, int] = {}
        """The process that knows an attempt's world as it is, by its number."""
        self._over: list[int] = []
        self._lock = threading.RLock()

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called in any of them; errors as of `ToolProcess.tools`."""
        return self._process.tools

    def expect(self, session: int, task: Task) -> None:
        """Says which task the attempt of a key is at."""
        with self._lock:
            self._tasks[session] = task

    def call(self, request: ToolRequest) -> Any:
        """The result of a call.

        Raises:
            CallFailed: the world refuses it, or it is of no attempt at a task with an environment; `lost` says that the
                process died of it.
        """
        with self._lock:
            task = self._tasks.get(request.session)
            if task is None or task.environment is None:
                raise CallFailed(f"{request.tool} belongs to an environment, and this task has none")
            self._process.begin()
            past = self._past.setdefault(request.session, [])
            if self._here.get(request.session) != self._process.starts:
                for made in past:
                    with suppress(CallFailed):
                        self._made(made, task)
            self._here[request.session] = self._process.starts
            try:
                result = self._made(request, task)
            except CallFailed as error:
                if not error.lost:
                    past.append(request)
                raise
            past.append(request)
            return result

    def begin(self, session: int) -> None:
        """Begins the world of an attempt before its first call.

        Raises:
            CallFailed: it cannot begin with its task; says why.
        """
        with self._lock:
            task = self._tasks[session]
            self._process.begin()
            self._here[session] = self._process.starts
            self._past[session] = []
            self._told(BEGIN, {}, session, task)

    def forget(self, sessions: Iterable[int]) -> None:
        """Forgets the tasks of attempts that are over and are not made again."""
        with self._lock:
            for session in sessions:
                self._tasks.pop(session, None)

    def seen(self, request: ToolRequest) -> None:
        """Notes a call whose result is on record."""
        with self._lock:
            self._past.setdefault(request.session, []).append(request)
            self._here.pop(request.session, None)
            if request.session not in self._over:
                self._over.append(request.session)

    def release(self, sessions: Iterable[int]) -> None:
        """Forgets attempts that are over."""
        with self._lock:
            for session in sessions:
                if self._past.pop(session, None) is not None:
                    self._over.append(session)
                self._here.pop(session, None)

    def close(self) -> None:
        """Ends the process; a further call starts another."""
        self._process.close()

    def _made(self, request: ToolRequest, task: Task) -> Any:
        return self._told(request.tool, request.arguments, request.session, task)

    def _told(self, tool: str, arguments: dict[str, Any], session: int, task: Task) -> Any:
        over, self._over = self._over, []
        assert task.environment is not None, "an environment's call is of a task that has one"
        return self._process.call(
            tool,
            arguments,
            session=session,
            kind=task.environment.__name__,
            task=described(task),
            over=over,
        )
