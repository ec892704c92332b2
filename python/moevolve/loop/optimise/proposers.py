"""Who proposes the next program, by name: operators that need no model, and a user's own function in a file."""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from moevolve.errors import UsageError
from moevolve.proposers.operators.operator import parsed
from moevolve.tasks.evaluators.marks import blocks
from moevolve.tasks.folder import imported

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w.])")
LONGEST_INTEGER = 4000
QUOTED = re.compile(r"'([^'\\\n]{1,60})'|\"([^\"\\\n]{1,60})\"")


class Proposal(msgspec.Struct, frozen=True):
    """A program, and what made it."""

    text: str
    operator: str
    summary: str


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposer knows."""

    parent: str
    """The parent's text."""
    score: float | None
    metrics: dict[str, float]
    best: str
    """The champion's text."""
    others: Sequence[str]
    """Texts of further good programs."""
    task: str
    """What the folder says about its problem."""
    evaluation: int
    evaluations: int
    """How many there are in all."""
    failures: Sequence[str] = ()
    """Why the newest evaluations failed."""


class ProgramProposer(Protocol):
    """Writes a child; None where it has no idea."""

    def __call__(self, brief: Brief, rng: Random) -> Proposal | None: ...


def constants(brief: Brief, rng: Random) -> Proposal | None:
    """One or two constants changed: numbers by a factor or a step, texts by another text of the program."""
    found = literals(brief.parent)
    if not found:
        return None
    chosen = rng.sample(found, min(len(found), rng.choice((1, 1, 1, 2))))
    changes = [(each, _changed(each, brief.parent, rng)) for each in chosen]
    text = replaced(brief.parent, [(each.start, each.end, new) for each, new in changes])
    summary = ", ".join(f"{each.text} to {new}" for each, new in changes)
    return Proposal(text, "constants", summary[:120])


def syntax(brief: Brief, rng: Random) -> Proposal | None:
    """One place of the syntax tree changed: an operator for another, a line left out, two lines exchanged."""
    deeds: list[tuple[int, int, str, str]] = []
    for start, end, kind in operators(brief.parent):
        old = brief.parent[start:end]
        deeds += [(start, end, new, f"{old} to {new}") for new in kind if new != old]
    lines = statements(brief.parent)
    for (start, end), (other, last) in zip(lines, lines[1:], strict=False):
        first, second = brief.parent[start:end], brief.parent[other:last]
        if first != second and _indent(first) == _indent(second):
            deeds.append((start, last, _exchanged(first, second), "two lines exchanged"))
    deeds += [(start, end, "", "a line left out") for start, end in lines]
    if not deeds:
        return None
    start, end, new, summary = rng.choice(deeds)
    return Proposal(replaced(brief.parent, [(start, end, new)]), "syntax", summary)


def crossover(brief: Brief, rng: Random) -> Proposal | None:
    """Constants of another good program taken over, each with probability one half, where the two differ in nothing else."""
    mine = literals(brief.parent)
    mates = [other for other in (brief.best, *brief.others) if other != brief.parent]
    if not mates or not mine:
        return None
    mate = rng.choice(mates)
    others = literals(mate)
    if len(others) != len(mine):
        return None
    taken = [
        (own.start, own.end, theirs.text)
        for own, theirs in zip(mine, others, strict=True)
        if own.text != theirs.text and rng.random() < 0.5
    ]
    if not taken:
        return None
    return Proposal(replaced(brief.parent, taken), "crossover", f"{len(taken)} constants of another program")


class Literal(msgspec.Struct, frozen=True):
    """A constant inside what may be changed: its place in characters, and its text."""

    start: int
    end: int
    text: str
    string: bool


@lru_cache(maxsize=256)
def literals(text: str) -> tuple[Literal, ...]:
    """The constants of a program, in order; numbers alone where it is no Python."""
    offsets, inside = _offsets(text)
    tree = _parsed(text)
    if tree is None:
        return tuple(
            Literal(match.start(), match.end(), match[0], False)
            for match in NUMBER.finditer(text)
            if inside(text.count("\n", 0, match.start()))
        )
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node.end_lineno is None or not inside(node.lineno - 1):
            continue
        number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        if number or isinstance(node.value, str):
            start, end = _place(offsets, text, node)
            if number or QUOTED.fullmatch(text[start:end]):
                found.append(Literal(start, end, text[start:end], not number))
    return tuple(sorted(found, key=lambda each: each.start))


_FAMILIES: dict[type[ast.AST], Sequence[str]] = {
    **dict.fromkeys((ast.Add, ast.Sub, ast.Mult, ast.Div), ("+", "-", "*", "/")),
    **dict.fromkeys((ast.Lt, ast.LtE, ast.Gt, ast.GtE), ("<", "<=", ">", ">=")),
    **dict.fromkeys((ast.Eq, ast.NotEq), ("==", "!=")),
}


@lru_cache(maxsize=256)
def operators(text: str) -> tuple[tuple[int, int, Sequence[str]], ...]:
    """(start, end, alternatives) of the operators of a Python program; none where it is no Python."""
    offsets, inside = _offsets(text)
    tree = _parsed(text)
    if tree is None:
        return ()
    found = []
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr, ast.AST, ast.expr]] = []
        if isinstance(node, ast.BinOp):
            pairs = [(node.left, node.op, node.right)]
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            pairs = [(node.left, node.ops[0], node.comparators[0])]
        for left, operator, right in pairs:
            family = _FAMILIES.get(type(operator))
            if family is None or not inside(left.lineno - 1) or not inside(right.lineno - 1):
                continue
            start, end = _place(offsets, text, left)[1], _place(offsets, text, right)[0]
            between = text[start:end]
            sign = between.strip(" ()\\\n")
            if sign in family:
                at = start + between.index(sign)
                found.append((at, at + len(sign), family))
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def statements(text: str) -> tuple[tuple[int, int], ...]:
    """(start, end) of lines that hold one simple statement of a Python program, their ends included."""
    offsets, inside = _offsets(text)
    tree = _parsed(text)
    if tree is None:
        return ()
    simple = (ast.Assign, ast.AugAssign, ast.Expr)
    lines = sorted(
        {
            node.lineno - 1
            for node in ast.walk(tree)
            if isinstance(node, simple) and node.lineno == node.end_lineno and inside(node.lineno - 1)
        }
    )
    return tuple((offsets[line], offsets[line + 1]) for line in lines)


def replaced(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """The text with parts of it replaced."""
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _parsed(text: str) -> ast.Module | None:
    """The syntax tree of a Python program whose lines are ours; None where it is none."""
    return None if "\r" in text.replace("\r\n", "") else parsed(text)


def _exchanged(first: str, second: str) -> str:
    """Two lines the other way round; the last one of a text may have no end."""
    body = first.rstrip("\r\n")
    return second + first if second.endswith("\n") else second + first[len(body) :] + body


def _offsets(text: str) -> tuple[list[int], Callable[[int], bool]]:
    """Where each line begins, and whether a line, counted from 0, may be changed."""
    offsets = [0]
    for line in text.split("\n"):
        offsets.append(min(len(text), offsets[-1] + len(line) + 1))
    allowed = {line for first, last in blocks(text) for line in range(first, last)}
    return offsets, allowed.__contains__


def _place(offsets: list[int], text: str, node: ast.expr) -> tuple[int, int]:
    """(start, end) of an expression in characters; its own columns are in bytes."""

    def at(line: int, column: int) -> int:
        begin = offsets[line - 1]
        row = text[begin : offsets[line]]
        return begin + (column if row.isascii() else len(row.encode()[:column].decode("utf-8", "ignore")))

    return at(node.lineno, node.col_offset), at(node.end_lineno or node.lineno, node.end_col_offset or 0)


def _changed(literal: Literal, program: str, rng: Random) -> str:
    """Another constant in its place."""
    if literal.string:
        words = sorted({first or second for first, second in QUOTED.findall(program)} - {literal.text[1:-1]})
        return repr(rng.choice(words)) if words else literal.text
    if (value := _integer(literal.text)) is not None:
        share, draw = rng.choice((0.02, 0.1, 0.3, 1.0)), rng.random()
        try:
            step = round(value * share * draw)
        except OverflowError:
            step = value * round(share * draw * 10**9) // 10**9
        return str(max(0, value + rng.choice((-1, 1)) * max(1, step)))
    try:
        number = float(literal.text)
    except ValueError:
        return literal.text
    scale = 10 ** rng.uniform(-3, 0.3)
    new = rng.gauss(0, scale) if number == 0 else number * (1 + rng.gauss(0, scale))
    if not math.isfinite(new):
        return literal.text
    return f"{new:.12g}" if new != int(new) or abs(new) > 1e15 else f"{new:.1f}"


def _integer(text: str) -> int | None:
    """The integer that a literal is; None where it is none, or has more digits than Python writes with one more."""
    if len(text) > LONGEST_INTEGER:
        return None
    try:
        return int(text) if text.isdecimal() else int(text, 0)
    except ValueError:
        return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


OPERATORS: dict[str, ProgramProposer] = {"constants": constants, "syntax": syntax, "crossover": crossover}
"""Proposers by the name that settings give them; a path that ends in `.py` names a user's own."""


def proposer(name: str) -> ProgramProposer:
    """The proposer of this name.

    Raises:
        UsageError: there is none, or a file without a function `propose`.
    """
    if name in OPERATORS:
        return OPERATORS[name]
    if not name.endswith(".py"):
        known = ", ".join(OPERATORS)
        raise UsageError(
            f"no proposer {name!r}: proposers are {known}, and files `NAME.py` that define propose(brief, rng)"
        )
    file = Path(name)
    if not file.is_file():
        raise UsageError(f"there is no proposer {name}")
    with redirect_stdout(sys.stderr):
        function = imported(file).get("propose")
    if not callable(function):
        raise UsageError(f"{name} defines no function propose(brief, rng)")
    return _Own(function, file.stem)


class _Own:
    """A user's own function: it returns a program's text, or None; what it prints is narration."""

    def __init__(self, function: Callable[[Brief, Random], Any], name: str) -> None:
        self._function = function
        self._name = name

    def __call__(self, brief: Brief, rng: Random) -> Proposal | None:
        with redirect_stdout(sys.stderr):
            found = self._function(brief, rng)
        if isinstance(found, Proposal):
            return found
        return Proposal(found, self._name, "") if isinstance(found, str) else None
