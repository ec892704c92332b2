"""What an operator is, and the places in Python source that operators change."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec

from moevolve.agents.brief import Success


class Inapplicable(Exception):
    """The operator finds no place for its edit."""


class Change(msgspec.Struct, frozen=True):
    """One edit: the whole new text of a file, and what was done in words."""

    path: str
    text: str
    summary: str


Operator = Callable[[Mapping[str, str], Sequence[Success], Random], Change]
"""Source files that may be edited, confirmed attempts, randomness -> an edit; raises `Inapplicable`."""

NAMED = 30
"""Characters of a string in the source from which it is taken for a prompt."""


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Span(msgspec.Struct, frozen=True):
    """A node of Python source, by the characters that it stands on."""

    start: int
    end: int
    value: object


def parsed(text: str) -> ast.Module | None:
    """The tree of a file; None where it is no Python, or nests deeper than Python reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def lines_of(text: str) -> list[str]:
    """The lines of a file as its tree counts them, with their ends: a form feed or a U+2028 ends none."""
    return _LINE.findall(text)


def span(text: str, node: ast.expr) -> Span:
    """Where a literal stands."""
    value = node.value if isinstance(node, ast.Constant) else None
    assert node.end_lineno is not None and node.end_col_offset is not None, "the tree is fresh from its text"
    return Span(
        _offset(text, node.lineno, node.col_offset),
        _offset(text, node.end_lineno, node.end_col_offset),
        value,
    )


def put(text: str, where: Span, new: str) -> str:
    """The text with other characters in place of a span's."""
    return text[: where.start] + new + text[where.end :]


def prompts(text: str) -> list[Span]:
    """Strings of a Python file that read as prompts: long, with blanks, and no docstring."""
    tree = parsed(text)
    if tree is None:
        return []
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    return [
        span(text, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and len(node.value) >= NAMED
        and " " in node.value
        and id(node) not in docs | pieces
    ]


def _offset(text: str, line: int, column: int) -> int:
    """Character index of a (line from 1, column in UTF-8 bytes) of the text."""
    lines = lines_of(text)
    before = lines[line - 1].encode()[:column].decode()
    return sum(map(len, lines[: line - 1])) + len(before)
