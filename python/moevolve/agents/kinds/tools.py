"""Requests to the tools that a suite grants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Protocol

import msgspec

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.protocol import packing
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest


class ToolFailure(Exception):
    """A call that a tool could not answer; its message reaches the program as a `ToolError`.

    Args:
        message: why.
        lost: whether what ran the tool died of the call, which then changed nothing.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class Toolbox(Protocol):
    """The tools of a suite."""

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called."""
        ...

    def call(self, requests: Sequence[ToolRequest]) -> Sequence[Any | ToolFailure]:
        """Results that JSON can hold, or failures, in the order of the calls."""
        ...

    def release(self, sessions: Iterable[int]) -> None:
        """Lets go of what was kept for attempts that are over."""
        ...


class WireCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool by name."""

    tool: str
    arguments: dict[str, Any] = {}


_decode_call = msgspec.json.Decoder(WireCall, strict=True).decode
_spell = packing.encode


def call_of(arguments: bytes) -> bytes | None:
    """A call as `Attempt.past` takes it, from the arguments of its request; None where they are none of a call."""
    try:
        asked = _decode_call(arguments)
    except msgspec.DecodeError:
        return None
    return _spell((asked.tool, asked.arguments))


class CallTool:
    """Calls of tools.

    Args:
        tools: what may be called; None grants nothing.
    """

    wire = WireCall

    def __init__(self, tools: Toolbox | None) -> None:
        self._tools = tools

    def request(self, asked: WireCall, attempt: Attempt, index: int, key: int) -> ToolRequest:
        # What was asked before is told by every call, one that is refused too: a record then needs no outcomes to tell it.
        past = attempt.past(_spell((asked.tool, asked.arguments)))
        names = [tool.name for tool in self._tools.tools] if self._tools else []
        if asked.tool not in names:
            near = get_close_matches(asked.tool, names, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise Refused("tool", f"this suite grants no tool {asked.tool!r}{hint}")
        size = len(msgspec.json.encode(asked.arguments))
        within(attempt, "prompt_chars", size, "the length of a tool's arguments")
        return ToolRequest(
            attempt=index,
            tool=asked.tool,
            arguments=asked.arguments,
            key=key,
            session=attempt.session,
            past=past,
        )

    def answer(self, requests: list[ToolRequest]) -> Sequence[Result]:
        assert self._tools is not None, "calls are granted where there are tools"
        return [
            Refused("tool", str(result), None if result.lost else (request.tool, request.arguments))
            if isinstance(result, ToolFailure)
            else Given(result, call=(request.tool, request.arguments))
            for request, result in zip(requests, self._tools.call(requests), strict=True)
        ]


class WireTools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words of a query, empty for all tools, and how many tools at most."""

    query: str = ""
    k: Annotated[int, msgspec.Meta(ge=1)] | None = None


class FindTools:
    """The granted tools as JSON schemas in OpenAI's form, ready to be offered to a model, best match first.

    A tool matches a word that its name or description holds; a word counts by how few tools hold it, and twice in a name.

    Args:
        tools: what may be called; None grants nothing.
    """

    wire = WireTools

    def __init__(self, tools: Toolbox | None) -> None:
        self._tools = tools

    def request(self, asked: WireTools, attempt: Attempt, index: int, key: int) -> WireTools:
        within(attempt, "prompt_chars", len(asked.query), "the length of a query")
        return asked

    def answer(self, requests: list[WireTools]) -> Sequence[Result]:
        return [
            Given([tool.described() for tool in ranked(self._tools.tools if self._tools else (), asked)])
            for asked in requests
        ]


def ranked(tools: Sequence[Tool], asked: WireTools) -> list[Tool]:
    """The tools that a query finds; of equals the first."""
    words = list(dict.fromkeys(asked.query.lower().split()))
    if not words:
        return list(tools)[: asked.k]
    names = [tool.name.lower() for tool in tools]
    texts = [f"{name} {tool.description.lower()}" for name, tool in zip(names, tools, strict=True)]
    scores = [0.0] * len(texts)
    for word in words:
        rarity = math.log(1 + len(texts) / max(1, sum(word in text for text in texts)))
        for index, (name, text) in enumerate(zip(names, texts, strict=True)):
            exact = word == name
            scores[index] += rarity * ((word in text) + (word in name) + exact)
    found = sorted((-score, index) for index, score in enumerate(scores) if score > 0)
    return [tools[index] for _, index in found[: asked.k]]
