"""A model's chat template: a conversation in, the prompt's text out.

Templates come with model files, so they are code of strangers: they run in Jinja's immutable sandbox over plain JSON data,
with the settings and the few functions that transformers gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import msgspec
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.parameters import read_json

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names under which clients send a turn's reasoning; templates read the first."""

LARGEST_POWER = 4096
"""Bits that `**` may make."""
LARGEST_REPEAT = 1 << 20
"""Characters or items that `*` may make."""


class _GenerationTag(Extension):
    """`{% generation %}` marks assistant text for training masks; here its body counts and the mark does not."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which a product or a power does not fill the memory either."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            whole = isinstance(left, int) and isinstance(right, int)
            large = whole and left.bit_length() * right > LARGEST_POWER
        else:
            sizes = [len(x) if isinstance(x, str | list | tuple) else x for x in (left, right)]
            repeats = any(isinstance(x, str | list | tuple) for x in (left, right))
            large = (
                repeats and all(isinstance(x, int) for x in sizes) and sizes[0] * sizes[1] > LARGEST_REPEAT
            )
        if large:
            raise SecurityError(f"{operator} makes too large a value")
        return super().call_binop(context, operator, left, right)


class _Namespace(jinja2.utils.Namespace):
    """`namespace()` without names that reach into Python."""

    def __init__(*args: Any, **values: Any) -> None:
        given = dict(*args[1:], **values)
        for name in given:
            _outside_python(name)
        jinja2.utils.Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _outside_python(name)
        super().__setitem__(name, value)


def _outside_python(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace of a chat template may not hold {name!r}")


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _make_dict(*args: Any, **values: Any) -> dict[Any, Any]:
    return dict(*args, **values)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' filter: Jinja's own escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class ChatTemplate:
    """A compiled template.

    Args:
        source: the Jinja text.
        special: texts of the special tokens by role, such as `bos_token`.
        origin: where the template comes from, for errors.

    Raises:
        CheckpointError: the template has a syntax error; names the origin and the line.
    """

    def __init__(self, source: str, special: Mapping[str, str], origin: str) -> None:
        self.source = source
        self._special = dict(special)
        self._origin = origin
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        functions: dict[str, Callable[..., Any]] = {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "dict": _make_dict,
            "namespace": _Namespace,
        }
        environment.globals.update(functions)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            where = f"line {error.lineno}: {error.message}"
            raise CheckpointError(f"the chat template of {origin} is broken: {where}") from error
        except RecursionError as error:
            raise CheckpointError(
                f"the chat template of {origin} is broken: it is nested too deep"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        answer: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt's text.

        Args:
            messages: `{"role", "content"}` and what else the template knows: `reasoning_content`, `tool_calls` (arguments as
                an object or as its JSON), `tool_call_id`.
            tools: each `{"type": "function", "function": {...}}`, or the inner object alone.
            answer: end where the model's turn begins.
            variables: what else the template may ask for, such as `enable_thinking`.

        Raises:
            UsageError: the template refuses the conversation, or fails on it.
        """
        told = [_message(message) for message in msgspec.to_builtins(messages)]
        offered = [_tool(tool) for tool in msgspec.to_builtins(tools)] if tools else None
        try:
            return self._template.render(
                messages=told,
                tools=offered,
                documents=None,
                add_generation_prompt=answer,
                **{**self._special, **variables},
            )
        except jinja2.TemplateError as error:
            raise UsageError(
                f"the chat template of {self._origin} refuses this conversation: {error.message}"
            ) from error
        except (
            TypeError,
            ValueError,
            AttributeError,
            LookupError,
            ArithmeticError,
            RecursionError,
            MemoryError,
        ) as error:
            raise UsageError(
                f"the chat template of {self._origin} fails on this conversation: {error}"
            ) from error


def _message(message: Any) -> dict[str, Any]:
    """A message in the form that templates are written for; what is null is left out, as many print it."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise UsageError(f"a message is an object with a role and content, not {str(message)[:60]!r}")
    told = {key: value for key, value in message.items() if value is not None}
    reasoning = next((told[name] for name in _REASONING if name in told), None)
    if reasoning is not None:
        told["reasoning_content"] = reasoning
    parts = told.get("content")
    if isinstance(parts, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in parts):
        told["content"] = "\n".join(str(part.get("text", "")) for part in parts)
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


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UsageError(f"a tool is an object with a name and parameters, not {str(tool)[:60]!r}")
    return tool if "function" in tool else {"type": "function", "function": tool}
