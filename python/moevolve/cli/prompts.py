"""What `generate` is to complete or answer: from the command line, a file, or stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from moevolve.config.files import read_text
from moevolve.errors import UsageError
from moevolve.models.parameters import read_json
from moevolve.records import Struct

MOST = 1 << 28
"""Bytes of a file of prompts, or of tools."""


class Request(Struct, frozen=True):
    """A text to complete, or a conversation to answer."""

    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None
    skill: str | None = None
    """Of a task that a program solves."""
    task: dict[str, Any] = {}
    """What the world of such a task begins with."""

    def conversation(self, system: str | None) -> tuple[dict[str, Any], ...]:
        """The messages; a text is what the user says, and `system` stands first unless they say another."""
        told = self.messages or ({"role": "user", "content": self.prompt or ""},)
        if system is None or told[0].get("role") == "system":
            return told
        return ({"role": "system", "content": system}, *told)


def from_arguments(prompts: list[str], file: Path | None) -> list[Request]:
    """The requests in their order: those of the command line (`-` stands for stdin), then the file's."""
    found: list[Request] = []
    for prompt in prompts:
        found += from_stdin() if prompt == "-" else [Request(prompt=_unicode(prompt, "the prompt"))]
    if file is not None and str(file) == "-":
        found += from_stdin()
    elif file is not None:
        found += from_lines(read_file(file), str(file))
    return found


def from_stdin() -> list[Request]:
    """Requests that are piped in."""
    try:
        return from_lines(sys.stdin.read().removeprefix("\ufeff"), "stdin")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 text: byte {error.start} is invalid") from error


def from_lines(text: str, origin: str) -> list[Request]:
    """One prompt a line; or, where the first line is an object with a prompt or messages, one such object a line.

    Raises:
        UsageError: a line of objects is none; names the line.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip("\r")]
    if not lines or not _is_request(lines[0][1]):
        return [Request(prompt=_unicode(line.rstrip("\r"), f"{origin}, line {n}")) for n, line in lines]
    return [_request(line, f"{origin}, line {number}") for number, line in lines]


def _unicode(text: str, where: str) -> str:
    """The text, if all of it is; Python lets stray bytes and halves of characters pass in places."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} is not Unicode text: character {error.start + 1} is none") from error
    return text


def _is_request(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        value = read_json(line)
    except ValueError:
        return False
    return isinstance(value, dict) and bool({"prompt", "messages"} & set(value))


def _request(line: str, where: str) -> Request:
    value = _json(line, where)
    if not isinstance(value, dict) or ("prompt" in value) == ("messages" in value):
        raise UsageError(f'{where}: write {{"prompt": ...}} or {{"messages": [...], "tools": [...]}}')
    tools = None if value.get("tools") is None else objects(value["tools"], f"{where}: tools")
    skill, task = value.get("skill"), value.get("task", {})
    if not isinstance(skill, str | None) or not isinstance(task, dict):
        raise UsageError(f"{where}: `skill` is a text and `task` an object")
    if "prompt" in value:
        if not isinstance(value["prompt"], str):
            raise UsageError(f"{where}: the prompt is a text")
        return Request(prompt=value["prompt"], tools=tools, skill=skill, task=task)
    messages = objects(value["messages"], f"{where}: messages")
    if not messages:
        raise UsageError(f"{where}: a conversation has at least one message")
    return Request(messages=messages, tools=tools, skill=skill, task=task)


def objects(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    """A list of JSON objects.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{where} are a list of objects")
    return tuple(value)


def tools_of(file: Path) -> tuple[dict[str, Any], ...]:
    """A file of tools: a JSON list, each in OpenAI's form.

    Raises:
        UsageError: it cannot be read, or is no such list.
    """
    return objects(_json(read_file(file), str(file)), f"{file}: tools")


def read_file(file: Path) -> str:
    """The text of a file that the command line names.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return read_text(file, MOST)
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: byte {error.start} is invalid") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def _json(text: str, where: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
