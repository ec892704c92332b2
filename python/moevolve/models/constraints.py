"""Forms that a text is held to, in the words that the engine compiles: schemas, expressions, choices, grammars, calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moevolve.errors import UsageError
from moevolve.models import harmony
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
    if constraint is not None and not calls and not form.think and not form.harmony:
        return constraint
    rules = _THOUGHTS if form.think else _ANALYSES if form.harmony else ""
    answer = "answer"
    if constraint is not None:
        # Not a name that the constraint's own rules have.
        while answer in constraint.source:
            answer += "_"
        rules += _answer(constraint, answer)
    if calls:
        rules += _calls(calls, form, several)
    if form.harmony:
        return Constraint(
            "lark", f"start: {_harmony(prompt, answer if constraint else '', bool(calls))}\n{rules}"
        )
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


_ANALYSES = f"analysis[lazy]: /(?s:.*){re.escape(harmony.END)}/\n"


def _harmony(prompt: str, answer: str, calls: bool) -> str:
    """A turn in channels: reasoning where the model likes to, then the answer by its rule's name, or calls."""
    begun = harmony.opened(prompt)
    channel = None if begun is None else harmony.channel_of(begun)
    if channel is not None and channel != "analysis" and answer:
        return answer  # inside its message
    parts = [f"{_quoted(harmony.FINAL)} {answer}"] * bool(answer) + ["calls"] * calls
    body = f"({' | '.join(parts)})"
    if channel == "analysis":
        return f"analysis {_quoted(harmony.NEXT)} {body}"
    if channel is not None:
        return f"{_quoted(harmony.END + harmony.NEXT)} {body}"
    return f"({_quoted(harmony.THOUGHT)} analysis {_quoted(harmony.NEXT)})? {body}"


def _calls(functions: Sequence[Mapping[str, Any]], form: ReplyFormat, several: bool) -> str:
    """Rules by which `calls` are calls as a family writes them."""
    match form.calls:
        case "minimax":
            return _minimax(functions, several)
        case "llama":
            # Templates of this family refuse a turn of two calls.
            return _json_calls(
                functions, lambda name: (f'{{"name": {json.dumps(name)}, "parameters": ', "}"), "call"
            )
        case "mistral" if form.named:
            more = f"call{{1,{MOST_CALLS}}}" if several else "call"
            return _json_calls(functions, lambda name: _named(name, form.named), more)
        case "mistral":
            more = f'(", " call){{0,{MOST_CALLS - 1}}}' if several else ""
            whole = f'"[TOOL_CALLS] [" call {more} "]"'
            return _json_calls(functions, _in_list, whole)
        case "harmony":
            return _json_calls(functions, lambda name: (harmony.called(name), ""), "call")
        case _:
            more = f'("\\n" call){{0,{MOST_CALLS - 1}}}' if several else ""
            return _json_calls(functions, _in_element, f"call {more}")


def _in_list(name: str) -> tuple[str, str]:
    return f'{{"name": {json.dumps(name)}, "arguments": ', "}"


def _in_element(name: str) -> tuple[str, str]:
    begin, end = _in_list(name)
    return f"<tool_call>\n{begin}", f"{end}\n</tool_call>"


def _named(name: str, marks: str) -> tuple[str, str]:
    """A name and marks; an id is as good as any other."""
    return f"[TOOL_CALLS]{name}{marks.replace('[CALL_ID]', '[CALL_ID]call00000')}", ""


def _json_calls(
    functions: Sequence[Mapping[str, Any]], around: Callable[[str], tuple[str, str]], whole: str
) -> str:
    """Rules of calls whose arguments are an object of JSON.

    Args:
        functions: what may be called.
        around: what stands before and behind the arguments of a function.
        whole: the calls of a turn by the rule `call`.
    """
    names = " | ".join(f"call_{place}" for place in range(len(functions)))
    rules = [f"calls: {whole}\ncall: {names}\n"]
    for place, function in enumerate(functions):
        begin, end = around(function["name"])
        rules.append(f"call_{place}: {_quoted(begin)} args_{place}{f' {_quoted(end)}' if end else ''}\n")
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
