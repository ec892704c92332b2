"""Messages, tools and calls of a chat as clients send them: what no template could read is refused by its field."""

from __future__ import annotations

from typing import Any

from moevolve.serve.failures import unsupported, wrong


def check_tool(where: str, function: dict[str, Any]) -> None:
    """Refuses a function without a name, or whose parameters are no object's schema."""
    if not function["name"]:
        raise wrong(f"{where}.name", "a tool has a name")
    parameters = function.get("parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise wrong(f"{where}.parameters", "a JSON schema of an object")
    if parameters.get("type", "object") not in ("object", ["object"]):
        raise wrong(f"{where}.parameters", f"the arguments are an object, not {parameters['type']!r}")


def name_of(choice: Any) -> str:
    """The function that a `tool_choice` names, or nothing."""
    function = choice.get("function", choice) if isinstance(choice, dict) else {}
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def text_of(message: dict[str, Any]) -> str:
    """What a message says, its parts in one."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content if isinstance(content, str) else ""


def check_message(where: str, message: dict[str, Any]) -> None:
    """Refuses a message that no template could read.

    Raises:
        RequestError: names the field.
    """
    if not isinstance(message.get("role"), str):
        raise wrong(f"{where}.role", "a message has a role")
    _check_calls(f"{where}.tool_calls", message.get("tool_calls"))
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong(f"{where}.content", "a text, or a list of parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise unsupported(f"{where}.content", 'parts are {"type": "text", "text": ...}')


def _check_calls(where: str, calls: Any) -> None:
    """Refuses calls in a history that have no name, or arguments that are neither JSON in a text nor an object."""
    if calls is None:
        return
    if not isinstance(calls, list):
        raise wrong(where, "a list of calls")
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise wrong(f"{where}[{place}]", 'a call is {"type": "function", "function": {"name": ..., ...}}')
        if not isinstance(function.get("arguments"), str | dict | None):
            raise wrong(f"{where}[{place}].function.arguments", "JSON of an object, in a text")
