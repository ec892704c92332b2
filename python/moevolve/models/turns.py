"""What a model says in its turn, taken apart: reasoning, content and tool calls, whole or as events of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.protocol.messages import ToolCall as ToolCall


class MalformedCall(msgspec.Struct, frozen=True):
    """What was meant as a call and is none: cut off, torn, or with a value that its declared type does not allow."""

    index: int
    reason: str
    text: str
    """As the model wrote it."""
    name: str | None = None
    """The tool, where so much could be read."""


class Reply(msgspec.Struct, frozen=True):
    """A model's turn. `content` is its answer as the model wrote it, what was meant as a call and is none included; line
    breaks beside reasoning and calls belong to the format and are left out at its edges."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: tuple[MalformedCall, ...] = ()

    def message(self) -> dict[str, Any]:
        """The turn as a message of a conversation, as chat templates read it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning"):
    """More reasoning; all deltas in a row are the reply's `reasoning`."""

    text: str


class ContentDelta(msgspec.Struct, frozen=True, tag="content"):
    """More of the answer; all deltas in a row are the reply's `content`."""

    text: str


class ToolCallStart(msgspec.Struct, frozen=True, tag="call_start"):
    """A call whose tool is known."""

    index: int
    name: str


class ToolCallArguments(msgspec.Struct, frozen=True, tag="call_arguments"):
    """More of the arguments' JSON; all deltas of a call in a row are one object, if the call ends well."""

    index: int
    json: str


class ToolCallEnd(msgspec.Struct, frozen=True, tag="call_end"):
    """A call is complete."""

    call: ToolCall


class ToolCallFailed(msgspec.Struct, frozen=True, tag="call_failed"):
    """A call, begun or not, that turned out malformed; its text follows as content."""

    call: MalformedCall


Event = ReasoningDelta | ContentDelta | ToolCallStart | ToolCallArguments | ToolCallEnd | ToolCallFailed
