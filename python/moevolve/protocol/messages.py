"""Conversations: their messages, the calls of tools in them, and the tools that may be called."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One well-formed call. Calls of one turn are meant in parallel; `index` is the place among them."""

    index: int
    name: str
    arguments: dict[str, Any]
    given_id: str = ""
    """The server's or the program's name of the call; empty where neither gave one."""

    @property
    def id(self) -> str:
        """A name within the turn, for the tool's answer to refer to."""
        return self.given_id or f"call_{self.index}"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a conversation."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    tool_call_id: str = ""
    """Of a tool's answer: the call that it answers."""
    name: str = ""
    reasoning: str = ""


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that a model may call; `parameters` is a JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}

    def described(self) -> dict[str, Any]:
        """The tool in OpenAI's form, as servers and chat templates read it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}
