"""Requests to the tools that a suite grants."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest


class ToolFailure(Exception):
    """A call that a tool could not answer; its message reaches the program as a `ToolError`."""


class Toolbox(Protocol):
    """The tools of a suite."""

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called."""
        ...

    def call(self, requests: Sequence[ToolRequest]) -> Sequence[Any | ToolFailure]:
        """Results that JSON can hold, or failures, in the order of the calls."""
        ...


class WireCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool by name."""

    tool: str
    arguments: dict[str, Any] = {}


class CallTool:
    """Calls of tools.

    Args:
        tools: what may be called; None grants nothing.
    """

    wire = WireCall

    def __init__(self, tools: Toolbox | None) -> None:
        self._tools = tools

    def request(self, asked: WireCall, attempt: Attempt, index: int, key: int) -> ToolRequest:
        names = [tool.name for tool in self._tools.tools] if self._tools else []
        if asked.tool not in names:
            near = get_close_matches(asked.tool, names, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise Refused("tool", f"this suite grants no tool {asked.tool!r}{hint}")
        size = len(msgspec.json.encode(asked.arguments))
        within(attempt, "prompt_chars", size, "the length of a tool's arguments")
        return ToolRequest(attempt=index, tool=asked.tool, arguments=asked.arguments, key=key)

    def answer(self, requests: list[ToolRequest]) -> Sequence[Result]:
        assert self._tools is not None, "calls are granted where there are tools"
        return [
            Refused("tool", str(result)) if isinstance(result, ToolFailure) else Given(result)
            for result in self._tools.call(requests)
        ]


class WireTools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that a tool's name or description holds; empty for all tools."""

    query: str = ""


class FindTools:
    """The granted tools as JSON schemas in OpenAI's form, ready to be offered to a model.

    Args:
        tools: what may be called; None grants nothing.
    """

    wire = WireTools

    def __init__(self, tools: Toolbox | None) -> None:
        self._tools = tools

    def request(self, asked: WireTools, attempt: Attempt, index: int, key: int) -> str:
        within(attempt, "prompt_chars", len(asked.query), "the length of a query")
        return asked.query

    def answer(self, requests: list[str]) -> Sequence[Result]:
        return [Given(self._matching(query.lower().split())) for query in requests]

    def _matching(self, words: list[str]) -> list[dict[str, Any]]:
        return [
            tool.described()
            for tool in (self._tools.tools if self._tools else ())
            if not words or any(word in f"{tool.name} {tool.description}".lower() for word in words)
        ]
