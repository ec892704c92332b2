"""A suite's tools for tasks that come from elsewhere than a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from moevolve.agents.kinds.tools import ToolFailure
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task
from moevolve.tasks.tools.process import CallFailed
from moevolve.tasks.tools.toolbox import Tools


class LiveTools:
    """A suite's tools as clients' tasks call them; nothing of a call is kept.

    Args:
        process: runs them.
    """

    def __init__(self, process: Tools) -> None:
        self._process = process

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called."""
        return self._process.tools

    def begin(self, session: int, task: Task) -> None:
        """Begins the world of a task that has an environment.

        Raises:
            CallFailed: it cannot begin with this task; says why.
        """
        self._process.expect(session, task)
        self._process.begin(session)

    def call(self, requests: Sequence[ToolRequest]) -> list[Any | ToolFailure]:
        """Results in the order of the calls."""
        found: list[Any | ToolFailure] = []
        for request in requests:
            try:
                found.append(self._process.call(request))
            except CallFailed as error:
                found.append(ToolFailure(str(error), lost=error.lost))
        return found

    def release(self, sessions: Iterable[int]) -> None:
        """Ends the servers and worlds of attempts that are over."""
        self._process.release(sessions)

    def forget(self, sessions: Iterable[int]) -> None:
        """Forgets the tasks of attempts that nobody makes again."""
        self._process.forget(sessions)

    def close(self) -> None:
        """Ends the process."""
        self._process.close()


def live(suite: Suite) -> LiveTools | None:
    """A suite's tools; None where it has none."""
    if not suite.tools and not suite.servers and suite.environments is None:
        return None
    return LiveTools(Tools(suite.tools, suite.servers, suite.folder, suite.environments))
