"""Tools for models whose template has no place for them: described in the system's message, called and answered in texts.

Calls are asked for as the Hermes family writes them, one JSON object in a `<tool_call>` element: most models have read some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from moevolve.models.toolcalls import HermesCalls


def needed(template: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> bool:
    """Whether a template would leave out tools, calls or their answers."""
    if tools and "tools" not in template:
        return True
    calls = any(message.get("tool_calls") or message.get("role") == "tool" for message in messages)
    return calls and "tool_calls" not in template


def in_texts(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The conversation with tools, calls and answers told in its texts."""
    told: list[dict[str, Any]] = []
    for message in messages:
        if message.get("role") == "tool":
            answer = f"<tool_response>\n{_text(message)}\n</tool_response>"
            if told and told[-1].get("answers"):
                told[-1]["content"] += f"\n{answer}"
            else:
                told.append({"role": "user", "content": answer, "answers": True})
            continue
        one = {key: value for key, value in message.items() if key != "tool_calls"}
        if calls := message.get("tool_calls"):
            texts = [text for text in (_text(message), *map(_call, calls)) if text]
            one["content"] = "\n".join(texts)
        told.append(one)
    for one in told:
        one.pop("answers", None)
    if tools:
        offer = _offer(tools)
        if told and told[0].get("role") == "system":
            told[0]["content"] = f"{_text(told[0])}\n\n{offer}"
        else:
            told.insert(0, {"role": "system", "content": offer})
    return told


def _offer(tools: Sequence[Mapping[str, Any]]) -> str:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    form = '{"name": NAME, "arguments": {...}}'
    return (
        f"You can call these tools:\n<tools>\n{listed}\n</tools>\n"
        f"To call one, write {HermesCalls.opening}\n{form}\n{HermesCalls.closing}"
    )


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function", call)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments if arguments is not None else {}, ensure_ascii=False)
    name = json.dumps(function.get("name"), ensure_ascii=False)
    return f'{HermesCalls.opening}\n{{"name": {name}, "arguments": {arguments}}}\n{HermesCalls.closing}'


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
