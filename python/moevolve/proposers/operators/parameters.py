"""Operators on numbers: settings of requests, and constants in capitals."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from random import Random

from moevolve.agents.brief import Success
from moevolve.proposers.operators.operator import Change, Inapplicable, Span, parsed, put, span

SETTINGS: dict[str, tuple[float, ...]] = {
    "temperature": (0.0, 0.3, 0.7, 1.0),
    "top_p": (0.8, 0.9, 0.95, 1.0),
    "max_tokens": (32, 64, 128, 256, 512),
    "n": (1, 2, 4, 8),
}
"""Values that a setting of `agent.generate` moves between."""
RECALL: dict[str, tuple[float, ...]] = {
    "k": (1, 2, 3, 4, 6, 8),
    "budget": (500, 1000, 2000, 4000),
    "words": (0.0, 0.25, 0.5, 0.75, 1.0),
    "vector": (0.0, 0.25, 0.5, 0.75, 1.0),
    "trust": (0.0, 0.25, 0.5, 1.0),
    "confidence": (0.0, 0.2, 0.4, 0.6),
}
"""Values that a setting of `agent.recall` moves between."""
WHOLE = ("max_tokens", "n", "k", "budget")
FACTORS = (0.5, 0.7, 1.5, 2.0)
"""By which a constant moves."""


def setting(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Moves a setting of a request, or of what is recalled, to another value."""
    places = [(path, name, where) for path in _sources(files) for name, where in _settings(files[path])]
    if not places:
        raise Inapplicable("no request names a setting")
    path, name, where = rng.choice(places)
    other = rng.choice([value for value in (SETTINGS | RECALL)[name] if value != where.value])
    new = f"{other:g}" if name in WHOLE else repr(other)
    return Change(path, put(files[path], where, new), f"{path}: {name} {where.value} to {new}")


def constant(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Moves a number that the source names in capitals."""
    places = [(path, name, where) for path in _sources(files) for name, where in _constants(files[path])]
    if not places:
        raise Inapplicable("the source names no number in capitals")
    path, name, where = rng.choice(places)
    value = where.value
    assert isinstance(value, int | float)
    moved = value * rng.choice(FACTORS)
    new = repr(max(1, round(moved))) if isinstance(value, int) else f"{moved:.3g}"
    return Change(path, put(files[path], where, new), f"{path}: {name} {value:g} to {new}")


def _sources(files: Mapping[str, str]) -> list[str]:
    return [path for path in sorted(files) if path.endswith(".py") and path not in ("improve.py", "learn.py")]


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _settings(text: str) -> list[tuple[str, Span]]:
    tree = parsed(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree else []
    return [
        (str(word.arg), span(text, word.value))
        for call in calls
        for word in call.keywords
        if word.arg in (RECALL if _recalls(call) else SETTINGS) and _number(word.value)
    ]


def _recalls(call: ast.Call) -> bool:
    """Whether a call asks memory."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "recall"


def _constants(text: str) -> list[tuple[str, Span]]:
    tree = parsed(text)
    found = []
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.isupper() and _number(node.value):
                found.append((name, span(text, node.value)))
    return found
