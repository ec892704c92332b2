"""A suite's tools for a server's clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moevolve.agents.kinds.tools import ToolFailure
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest
from moevolve.tasks.tools.process import CallFailed, ToolProcess


class LiveTools:
    """A suite's tools as clients' tasks call them; nothing of a call is kept.

    Args:
        process: runs them.
    """

    def __init__(self, process: ToolProcess) -> None:
        self._process = process

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called."""
        return self._process.tools

    def call(self, requests: Sequence[ToolRequest]) -> list[Any | ToolFailure]:
        """Results in the order of the calls."""
        found: list[Any | ToolFailure] = []
        for request in requests:
            try:
                found.append(self._process.call(request.tool, request.arguments))
            except CallFailed as error:
                found.append(ToolFailure(str(error)))
        return found

    def close(self) -> None:
        """Ends the process."""
        self._process.close()
