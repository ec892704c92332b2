"""Plans checked again: whether an answer is made of the policy's completions alone.

A plan is JSON, `["tag", field, ...]`. Every text comes from some of: the task, constants, memory, the policy. Only a text
from the policy alone may be an answer. This walk is written from the grammar in `docs/programs.md`.
"""

from __future__ import annotations

from typing import Any

import msgspec

TASK, CONSTANT, MEMORY, POLICY = "task", "constant", "memory", "policy"
DEEPEST = 60
Sources = frozenset[str]


class Behaviour(msgspec.Struct, frozen=True):
    """What a program's `solve` returned: plans by skill as JSON, reasons where there is none."""

    plans: dict[str, str]
    refused: dict[str, str] = {}
    computes: bool = False


def behaviour(data: bytes) -> Behaviour:
    """A recorded behaviour.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(data, type=Behaviour)


def foreign(plan: str) -> str | None:
    """Why a plan's answer is not the policy's alone; None if it is."""
    try:
        sources = _text(msgspec.json.decode(plan), (), 0)
    except (msgspec.DecodeError, ValueError, TypeError, IndexError, RecursionError) as error:
        return f"it cannot be read: {error}"
    others = sorted(sources - {POLICY})
    if others:
        return f"its answer holds words from: {', '.join(others)}"
    return None if sources else "its answer comes from nowhere"


def _text(node: Any, scope: tuple[Sources, ...], depth: int) -> Sources:
    """Where the words of a text may come from."""
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    deeper = depth + 1

    def text(child: Any) -> Sources:
        return _text(child, scope, deeper)

    match node:
        case ["literal", str()]:
            return frozenset({CONSTANT})
        case ["payload"] | ["prompt"]:
            return frozenset({TASK})
        case ["lessons", int()] | ["lessons", int(), float() | int()]:
            return frozenset({MEMORY})
        case ["variable", int(index)]:
            return scope[index]
        case ["operand", of, int()]:
            return text(of)
        case ["concat", [*texts]]:
            return frozenset[str]().union(*map(text, texts))
        case ["slice", of, _, _]:
            sources = text(of)
            if sources != {POLICY}:
                raise ValueError("it slices what is not the policy's")
            return sources
        case ["ask", prompt] | ["retry", prompt, _, _]:
            text(prompt)
            return frozenset({POLICY})
        case ["vote", [*prompts], _, _, _, otherwise]:
            for prompt in prompts:
                text(prompt)
            return frozenset({POLICY}) | (frozenset() if otherwise is None else text(otherwise))
        case ["verify", prompt, _, _, back, gives]:
            text(prompt)
            text(gives)
            _binding(back, scope, (frozenset({POLICY}),), deeper)
            return frozenset({POLICY})
        case ["window", of, _, _, pair, one]:
            sources = text(of)
            return _binding(pair, scope, (sources,), deeper) | _binding(one, scope, (sources,), deeper)
        case ["fold", parts, first, then]:
            part = _parts(parts, scope, deeper)
            so_far = _binding(first, scope, (part,), deeper)
            return so_far | _binding(then, scope, (so_far, part), deeper)
        case ["join", parts, bool()]:
            return _parts(parts, scope, deeper)
    raise ValueError(f"an unknown expression {str(node)[:60]}")


def _parts(node: Any, scope: tuple[Sources, ...], depth: int) -> Sources:
    match node:
        case ["cut", text, int(), str(), int()]:
            return _text(text, scope, depth + 1)
        case ["each", parts, way]:
            return _binding(way, scope, (_parts(parts, scope, depth + 1),), depth + 1)
        case ["backwards", parts]:
            return _parts(parts, scope, depth + 1)
    raise ValueError(f"unknown parts {str(node)[:60]}")


def _binding(node: Any, scope: tuple[Sources, ...], given: tuple[Sources, ...], depth: int) -> Sources:
    first, body = node
    if first != len(scope):
        raise ValueError(f"a variable is numbered {first}, and {len(scope)} comes next")
    return _text(body, (*scope, *given), depth + 1)
