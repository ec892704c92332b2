"""A model's chat template: a conversation in, the prompt's text out.

Templates come with model files, so they are code of strangers: they run in Jinja's immutable sandbox over plain JSON data,
with the settings and the few functions that transformers gives them, in a process of their own whose time, memory and
output are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moevolve.errors import CheckpointError, UsageError
from moevolve.journal.text import line
from moevolve.models.messages import REASONING
from moevolve.models.parameters import read_json
from moevolve.models.parts import readable
from moevolve.models.rendering.process import renderer
from moevolve.models.rendering.worker import REFUSED, TEXT

OWN = frozenset({"messages", "tools", "add_generation_prompt"})
"""What a template gets from the conversation, under names that no variable may have."""

MOST_SAID = 600
"""Characters of what a template says, or its file, in an error."""


class ChatTemplate:
    """A template that compiles.

    Args:
        source: the Jinja text.
        special: texts of the special tokens by role, such as `bos_token`.
        origin: where the template comes from, for errors.

    Raises:
        CheckpointError: the template has a syntax error, or takes more time or memory to compile than it may; names the
            origin, and the line where it is known.
    """

    def __init__(self, source: str, special: Mapping[str, str], origin: str) -> None:
        self.source = source
        self._special = dict(special)
        self._origin = origin
        letter, said = renderer.ask(source, None)
        if letter != TEXT:
            raise CheckpointError(f"the chat template of {origin} is broken: {line(said, MOST_SAID)}")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        answer: bool = True,
        documents: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The prompt's text.

        Args:
            messages: `{"role", "content"}` and what else the template knows: `reasoning_content`, `tool_calls` (arguments as
                an object or as its JSON), `tool_call_id`. Content in parts reaches templates that read parts as it is,
                others in lines.
            tools: each `{"type": "function", "function": {...}}`, or the inner object alone; an empty list, which some
                templates tell from None, stays one.
            answer: end where the model's turn begins.
            documents: what the answer is to draw on, mostly `{"title", "text"}`, for templates that have a place for them.
            variables: what else the template may ask for, such as `enable_thinking`.

        Raises:
            UsageError: the template refuses the conversation, fails on it, or takes more time, memory or text than it may;
                or a variable has the name of what it gets from the conversation.
        """
        refuse_own(variables)
        told = [_message(message) for message in msgspec.to_builtins(messages)]
        offered = [_tool(tool) for tool in msgspec.to_builtins(tools)] if tools is not None else None
        try:
            given = msgspec.to_builtins(variables)
            drawn_on = (
                None if documents is None else [_document(one) for one in msgspec.to_builtins(documents)]
            )
        except TypeError as error:
            raise UsageError(f"a chat template takes plain values alone: {error}") from error
        rest = {
            **self._special,
            **given,
            "tools": offered,
            "documents": drawn_on,
            "add_generation_prompt": answer,
        }

        def tried(messages: list[dict[str, Any]]) -> str | None:
            try:
                return self._rendered(messages, rest)
            except UsageError:
                return None

        return self._rendered(readable(told, tried), rest)

    def _rendered(self, messages: list[dict[str, Any]], rest: Mapping[str, Any]) -> str:
        letter, said = renderer.ask(self.source, {**rest, "messages": messages})
        if letter == TEXT:
            return said
        does = "refuses" if letter == REFUSED else "fails on"
        raise UsageError(
            f"the chat template of {self._origin} {does} this conversation: {line(said, MOST_SAID)}"
        )


def refuse_own(variables: Mapping[str, Any]) -> None:
    """Refuses variables under names of what a template gets from the conversation.

    Raises:
        UsageError: names them.
    """
    if taken := OWN & variables.keys():
        raise UsageError(f"{', '.join(sorted(taken))}: a chat template gets this from the conversation")


def _message(message: Any) -> dict[str, Any]:
    """A message in the form that templates are written for; what is null is left out, as many print it."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise UsageError(f"a message is an object with a role and content, not {str(message)[:60]!r}")
    told = {key: value for key, value in message.items() if value is not None}
    reasoning = next((told[name] for name in REASONING if name in told), None)
    if reasoning is not None:
        # As transformers does it: some templates read the first name, some another.
        told = {"thinking": reasoning, **told, "reasoning_content": reasoning}
    calls = told.get("tool_calls")
    if isinstance(calls, list):
        told["tool_calls"] = [_call(call) for call in calls]
    return told


def _call(call: Any) -> Any:
    """A tool call with its arguments as an object: clients of the OpenAI interface send their JSON."""
    if not isinstance(call, dict):
        return call
    if "function" in call:
        return {**call, "function": _call(call["function"])}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        return {**call, "arguments": read_json(arguments)}
    except ValueError:
        return call


def _document(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise UsageError(f"a document is an object with a title and a text, not {str(document)[:60]!r}")
    return document


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UsageError(f"a tool is an object with a name and parameters, not {str(tool)[:60]!r}")
    return tool if "function" in tool else {"type": "function", "function": tool}
