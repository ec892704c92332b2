"""Calls as clients wrote them before there were tools: one function a turn, answered in the role `function`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moevolve.protocol.responses import Unsaid


def with_tool_calls(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with each `function_call` as a call of a tool, and its answer in the role `tool`.

    Args:
        messages: of a chat; each has a role.

    Raises:
        Unsaid: names the field of a call that is none, or an answer without the function's name.
    """
    told: list[dict[str, Any]] = []
    last = ""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        one = {name: value for name, value in message.items() if name != "function_call"}
        if (call := message.get("function_call")) is not None:
            _check(f"{where}.function_call", call, message)
            last = short_id(index)
            function = {"name": call["name"], "arguments": call.get("arguments") or "{}"}
            one["tool_calls"] = [{"id": last, "type": "function", "function": function}]
        elif message.get("role") == "function":
            if not isinstance(message.get("name"), str) or not message["name"]:
                raise Unsaid(
                    f"{where}.name", "an answer in the role `function` has its name", "invalid_value"
                )
            one |= {"role": "tool", "tool_call_id": last or short_id(index)}
        told.append(one)
    return told


def _check(where: str, call: Any, message: Mapping[str, Any]) -> None:
    if message.get("role") != "assistant":
        raise Unsaid(where, "calls are the assistant's", "invalid_value")
    if message.get("tool_calls"):
        raise Unsaid(where, "it and `tool_calls` are there, and a turn has one of them", "invalid_value")
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        raise Unsaid(where, 'a call is {"name": ..., "arguments": ...}', "invalid_value")
    if not isinstance(call.get("arguments"), str | dict | None):
        raise Unsaid(f"{where}.arguments", "JSON of an object, in a text", "invalid_value")


def short_id(index: int) -> str:
    """A call's id: nine letters and digits, which every template takes."""
    return f"call{index % 10**5:05d}"
