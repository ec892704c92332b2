"""Messages in OpenAI's form, as chat templates and servers read them."""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.protocol.messages import Message

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which clients send a turn's reasoning, the one that counts first."""


def in_openai_form(message: Message, *, text_arguments: bool, reasoning: bool) -> dict[str, Any]:
    """One message as a dictionary; fields that it leaves empty are not in it.

    Args:
        message: the message.
        text_arguments: give a call's arguments as JSON text, as servers want them; templates want them as an object.
        reasoning: keep an assistant's reasoning, as `reasoning_content`.
    """
    given: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        given["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": msgspec.json.encode(call.arguments).decode()
                    if text_arguments
                    else call.arguments,
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        given["tool_call_id"] = message.tool_call_id
    if message.name:
        given["name"] = message.name
    if message.reasoning and reasoning:
        given["reasoning_content"] = message.reasoning
    return given
