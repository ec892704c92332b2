"""Forms that a text is held to, in the words that the engine compiles: schemas, expressions, choices, grammars, calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from moevolve.errors import UsageError
from moevolve.models.parameters import STRING, Signatures
from moevolve.models.reply import ReplyFormat
from moevolve.protocol.sampling import Constraint

SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON is written as Python writes it: a small model that may put blanks anywhere puts them for ever."""
MOST_CHOICES = 4096
"""Texts that one is chosen from: a grammar of more takes seconds to read."""
MOST_CALLS = 8
"""Calls of one turn that has to call."""


def json_schema(schema: Mapping[str, Any] | bool) -> Constraint:
    """Text that is an instance of a JSON schema; `True` and `{}` allow any JSON.

    Raises:
        UsageError: it is no schema.
    """
    if not isinstance(schema, Mapping | bool):
        raise UsageError(f"schema: a JSON schema is an object, or true or false, not {str(schema)[:60]!r}")
    return Constraint("json", _spaced(schema))


def regex(pattern: str) -> Constraint:
    """Text that a regular expression matches as a whole, in Rust's syntax: no look-around, no back references."""
    return Constraint("regex", pattern)


def choice(options: Sequence[str]) -> Constraint:
    """Text that is one of a few.

    Raises:
        UsageError: there are none, or too many.
    """
    if len(options) > MOST_CHOICES:
        raise UsageError(f"choice: {len(options)} texts; {MOST_CHOICES} at most")
    if not options or not all(isinstance(option, str) and option for option in options):
        raise UsageError("choice: a list of texts, at least one, none empty")
    return Constraint("lark", f"start: {' | '.join(map(_quoted, dict.fromkeys(options)))}\n")


def grammar(source: str) -> Constraint:
    """Text of a grammar in Lark's syntax, whose rule `start` is the whole.

    Raises:
        UsageError: it is written in another notation.
    """
    if "::=" in source:
        raise UsageError(
            "grammar: it is written in Lark's syntax (`start: ...`), not in GBNF or EBNF with `::=`"
        )
    return Constraint("lark", source)


def turn(
    constraint: Constraint | None,
    form: ReplyFormat,
    prompt: str,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    several: bool = True,
) -> Constraint:
    """What a whole turn must be: reasoning where the model's family reasons, then an answer of a form, or calls.

    Args:
        constraint: the form of the answer; None for none, so that the turn must call.
        form: how the model writes turns.
        prompt: the rendered conversation before the turn.
        tools: what may be called, in OpenAI's form.
        several: whether it may make more than one call.

    Raises:
        UsageError: the turn must call, and there is nothing that this model could be made to call.
    """
    calls = [tool.get("function", tool) for tool in tools] if form.calls is not None else []
    if constraint is None and not calls:
        raise UsageError("tool_choice: there is no tool that this model could be made to call")
    if constraint is not None and not calls and not form.think:
        return constraint
    rules = _THOUGHTS if form.think else ""
    answer = "answer"
    if constraint is not None:
        # Not a name that the constraint's own rules have.
        while answer in constraint.source:
            answer += "_"
        rules += _answer(constraint, answer)
    if calls:
        rules += (_minimax if form.calls == "minimax" else _hermes)(calls, several)
    body = " | ".join([answer] * (constraint is not None) + ["calls"] * bool(calls))
    return Constraint("lark", f"start: {_thought(form, prompt)}({body})\n{rules}")


def _answer(constraint: Constraint, name: str) -> str:
    """Rules by which `name` is what a constraint allows."""
    match constraint.form:
        case "json":
            return f"{name}: %json {constraint.source}\n"
        case "regex":
            return f"{name}: {name.upper()}\n{name.upper()}: /{_SLASH.sub(_escaped, constraint.source)}/\n"
        case _:
            renamed = _WORDS.sub(lambda word: name if word[0] == "start" else word[0], constraint.source)
            return f"{renamed}\n"


def _escaped(part: re.Match[str]) -> str:
    """A part of an expression as it stands between slashes, on one line."""
    match part[0]:
        case "/":
            return "\\/"
        case "\n" | "\\\n":
            return "\\n"
        case other:
            return other


_SLASH = re.compile(r"(?s:\\.)|/|\n")
"""What an expression's slashes and ends of lines are looked for among: an escaped character is one."""
_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/(?:\\.|[^/\\\n])+/|\bstart\b')
"""Texts, comments and expressions of a grammar, in which a rule's name is no name, and the rule `start`."""


_THOUGHTS = "thought[lazy]: /(?s:.*)<\\/think>/\nGAP: /\\n{0,2}/\n"


def _thought(form: ReplyFormat, prompt: str) -> str:
    if not form.think:
        return ""
    if prompt.rstrip().endswith("<think>"):
        return "thought GAP "
    if prompt.rstrip().endswith("</think>"):
        return ""
    return '("<think>" thought GAP)? '


def _hermes(functions: Sequence[Mapping[str, Any]], several: bool) -> str:
    names = " | ".join(f"call_{place}" for place in range(len(functions)))
    more = f'("\\n" call){{0,{MOST_CALLS - 1}}}' if several else ""
    rules = [f"calls: call {more}\ncall: {names}\n"]
    for place, function in enumerate(functions):
        begin = f'<tool_call>\n{{"name": {json.dumps(function["name"])}, "arguments": '
        rules.append(
            f"call_{place}: {_quoted(begin)} args_{place} {_quoted('}' + chr(10) + '</tool_call>')}\n"
        )
        rules.append(f"args_{place}: %json {_spaced(_parameters(function))}\n")
    return "".join(rules)


def _minimax(functions: Sequence[Mapping[str, Any]], several: bool) -> str:
    names = " | ".join(f"call_{place}" for place in range(len(functions)))
    more = f"call{{1,{MOST_CALLS}}}" if several else "call"
    block = f"{_quoted('<minimax:tool_call>' + chr(10))} {more} {_quoted('</minimax:tool_call>')}"
    rules = [f"calls: {block}\ncall: {names}\n", "raw[lazy]: /(?s:.*)<\\/parameter>/\n"]
    for place, function in enumerate(functions):
        schema = _parameters(function)
        signatures = Signatures([{"function": {"name": "f", "parameters": schema}}])
        properties = schema.get("properties")
        declared = schema.get("required")
        required = declared if isinstance(declared, list) else []
        parts = []
        for number, (name, rule) in enumerate(properties.items() if isinstance(properties, Mapping) else ()):
            own = f"value_{place}_{number}"
            begin = _quoted(f'<parameter name="{name}">')
            texts = rule.get("enum") if isinstance(rule, Mapping) else None
            if signatures.types("f", name) in (STRING, frozenset()):
                if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
                    rules.append(f"{own}: ({' | '.join(map(_quoted, texts))}) {_quoted('</parameter>')}\n")
                else:
                    rules.append(f"{own}: raw\n")
            else:
                # References point into the tool's own schema.
                root = {**{key: schema[key] for key in ("$defs", "definitions") if key in schema}, **rule}
                rules.append(f"{own}: json_{place}_{number} {_quoted('</parameter>')}\n")
                rules.append(f"json_{place}_{number}: %json {_spaced(root)}\n")
            whole = f"{begin} {own} {_quoted(chr(10))}"
            parts.append(whole if name in required else f"({whole})?")
        frame = _quoted(f'<invoke name="{function["name"]}">\n'), _quoted("</invoke>\n")
        rules.append(f"call_{place}: {frame[0]} {' '.join(parts)} {frame[1]}\n")
    return "".join(rules)


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    declared = function.get("parameters")
    schema = dict(declared) if isinstance(declared, Mapping) else {}
    return schema if schema.get("type") or "properties" in schema or "$ref" in schema else {"type": "object"}


def _spaced(schema: Mapping[str, Any] | bool) -> str:
    """A schema's text, with how JSON is spaced."""
    if schema is False:
        raise UsageError("schema: `false` allows nothing")
    told = {} if schema is True else {"x-guidance": SPACING, **schema}
    try:
        return json.dumps(told or {"x-guidance": SPACING}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"schema: it is no JSON: {error}") from error


def _quoted(text: str) -> str:
    """A text as a literal of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)
