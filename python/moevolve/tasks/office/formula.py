"""A small evaluator of spreadsheet formulas, for answers of strangers: bounded in length, depth, cells and steps.

It knows arithmetic, comparisons, text, ranges of one sheet and the functions of `functions.py`, element by element where
ranges of one shape stand in an expression. Whatever it does not know is a `FormulaError`: refused, and not guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moevolve.tasks.office.values import Block, FormulaError, Value, compared, number, scalar, text

MOST_CHARACTERS = 512
MOST_DEPTH = 32
MOST_STEPS = 20_000
"""Cells read and values computed, all together."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?|\.\d+)"
    r'|"(?P<text>(?:[^"]|"")*)"'
    r"|(?P<range>\$?[A-Za-z]{1,2}\$?\d{1,5}\s*:\s*\$?[A-Za-z]{1,2}\$?\d{1,5}(?![\w(])"
    r"|\$?[A-Za-z]{1,2}\s*:\s*\$?[A-Za-z]{1,2}(?![\w(]))"
    r"|(?P<cell>\$?[A-Za-z]{1,2}\$?\d{1,5}(?![\w(!]))"
    r"|(?P<call>[A-Za-z][A-Za-z0-9.]{0,15})\s*\("
    r"|(?P<truth>(?i:TRUE|FALSE))(?![\w(])"
    r"|(?P<name>[A-Za-z_][A-Za-z_]{2,31}(?![\w(!]))"
    r"|(?P<sign><=|>=|<>|[-+*/^&=<>(),%]))"
)
_CORNER = re.compile(r"\$?([A-Za-z]+)\$?(\d*)")

_BINARY = ({"=", "<>", "<", ">", "<=", ">="}, {"&"}, {"+", "-"}, {"*", "/"}, {"^"})
"""Signs by how loosely they bind."""

Function = Callable[..., Value]
Corner = tuple[int, int]
"""(column, row), both counted from 1."""
Cells = Mapping[Corner, Value]
"""A cell that is not there is empty."""


class Formula:
    """A formula, read.

    Args:
        source: as somebody wrote it, from its `=` on.
        functions: name in capitals -> function.

    Raises:
        FormulaError: it is too long or too deep, or no formula that is known here.
    """

    def __init__(self, source: str, functions: Mapping[str, Function]) -> None:
        if not source.startswith("="):
            raise FormulaError("a formula begins with =")
        if len(source) > MOST_CHARACTERS:
            raise FormulaError(f"a formula of {len(source)} characters")
        self._functions = functions
        self._tokens = list(_tokens(source[1:]))
        self._at = 0
        self._node = self._expression(0, 0)
        if self._at < len(self._tokens):
            raise FormulaError(f"{self._tokens[self._at][1]!r} stands after the end")

    def value(
        self,
        cells: Cells,
        size: tuple[int, int],
        own: tuple[int, int],
        names: Mapping[str, tuple[Corner, Corner]] | None = None,
    ) -> Value:
        """What the formula comes to.

        Args:
            cells: the sheet.
            size: its last column and row, where whole columns end.
            own: the cell that it stands in.
            names: ranges that have a name, whatever its case.

        Raises:
            FormulaError: an error value, a block where one value is wanted, a reference to its own cell, or too much work.
        """
        named = {name.casefold(): corners for name, corners in (names or {}).items()}
        return scalar(_Evaluation(cells, size, own, named, self._functions).of(self._node))

    # ------------------------------------------------------------------ grammar

    def _expression(self, binding: int, depth: int) -> _Node:
        if depth > MOST_DEPTH:
            raise FormulaError("nested too deeply")
        if binding == len(_BINARY):
            return self._signed(depth)
        left = self._expression(binding + 1, depth)
        while (sign := self._sign(_BINARY[binding])) is not None:
            left = ("binary", sign, left, self._expression(binding + 1, depth))
        return left

    def _signed(self, depth: int) -> _Node:
        """A term with signs before it, which bind it closer than a power does, and per cents after it."""
        signs = []
        while (sign := self._sign({"+", "-"})) is not None:
            signs.append(sign)
            if len(signs) > MOST_DEPTH:
                raise FormulaError("too many signs")
        node = self._term(depth + 1)
        for _ in range(MOST_DEPTH):
            if self._sign({"%"}) is None:
                break
            node = ("binary", "/", node, ("value", 100.0))
        for sign in signs:
            node = ("minus", node) if sign == "-" else node
        return node

    def _term(self, depth: int) -> _Node:
        if self._at >= len(self._tokens):
            raise FormulaError("it ends too early")
        kind, word = self._tokens[self._at]
        self._at += 1
        match kind:
            case "number":
                return ("value", float(word))
            case "text":
                return ("value", word.replace('""', '"'))
            case "truth":
                return ("value", word.upper() == "TRUE")
            case "cell":
                return ("cell", _corner(word))
            case "range":
                return ("range", *map(_corner, word.split(":")))
            case "name":
                return ("name", word.casefold())
            case "call":
                return self._call(word.upper(), depth)
        if word == "(":
            node = self._expression(0, depth)
            self._close()
            return node
        raise FormulaError(f"{word!r} stands where a value is wanted")

    def _call(self, name: str, depth: int) -> _Node:
        if name not in self._functions and name not in LAZY:
            raise FormulaError(f"there is no function {name} here")
        arguments: list[_Node] = []
        if self._sign({")"}) is not None:
            return ("call", name, arguments)
        while True:
            missing = self._at < len(self._tokens) and self._tokens[self._at] in (
                ("sign", ","),
                ("sign", ")"),
            )
            arguments.append(("value", None) if missing else self._expression(0, depth))
            if self._sign({","}) is None:
                self._close()
                return ("call", name, arguments)

    def _sign(self, wanted: set[str]) -> str | None:
        if self._at < len(self._tokens):
            kind, word = self._tokens[self._at]
            if kind == "sign" and word in wanted:
                self._at += 1
                return word
        return None

    def _close(self) -> None:
        if self._sign({")"}) is None:
            raise FormulaError("a bracket is not closed")


_Node = tuple[Any, ...]
"""("value", v), ("cell", corner), ("range", corner, corner), ("name", name), ("minus", node), ("binary", sign, node, node),
("call", name, nodes)."""

LAZY = ("IF", "IFERROR")
"""Functions that leave some of their arguments uncomputed."""


class _Evaluation:
    """One computation over one sheet."""

    def __init__(
        self,
        cells: Cells,
        size: tuple[int, int],
        own: tuple[int, int],
        names: Mapping[str, tuple[Corner, Corner]],
        functions: Mapping[str, Function],
    ) -> None:
        self._names = names
        self._cells = cells
        self._size = size
        self._own = own
        self._functions = functions
        self._left = MOST_STEPS

    def of(self, node: _Node) -> Value:
        """The value of a node."""
        self._spend(1)
        match node:
            case ("value", value):
                return value  # type: ignore[no-any-return]
            case ("cell", (column, row)):
                return self._cell(column, row)
            case ("range", first, last):
                return self._block(first, last)
            case ("name", name) if name in self._names:
                return self._block(*self._names[name])
            case ("name", name):
                raise FormulaError(f"there is no range {name}")
            case ("minus", inner):
                return self._each(lambda value: -number(value), self.of(inner))
            case ("binary", sign, left, right):
                return self._each(_OPERATIONS[sign], self.of(left), self.of(right))
            case ("call", "IF", arguments):
                return self._if(arguments)
            case ("call", "IFERROR", [first, other]):
                try:
                    return scalar(self.of(first))
                except FormulaError:
                    return self.of(other)
            case ("call", name, arguments) if name in self._functions:
                return self._called(name, arguments)
        raise FormulaError("a function has arguments that it does not take")

    def _if(self, arguments: Sequence[_Node]) -> Value:
        if not 2 <= len(arguments) <= 3:
            raise FormulaError("IF takes two or three arguments")
        asked = scalar(self.of(arguments[0]))
        if isinstance(asked, str):
            raise FormulaError("IF asks for a truth, not a text")
        if asked:
            return self.of(arguments[1])
        return self.of(arguments[2]) if len(arguments) == 3 else False

    def _called(self, name: str, arguments: Sequence[_Node]) -> Value:
        values = [self.of(argument) for argument in arguments]
        self._spend(sum(len(value.flat) for value in values if isinstance(value, Block)))
        try:
            return self._functions[name](*values)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormulaError(f"{name}: {error}") from None

    def _each(self, operation: Callable[..., Value], *values: Value) -> Value:
        """An operation on single values, or on each place of blocks of one shape."""
        blocks = [value for value in values if isinstance(value, Block)]
        if not blocks:
            return _guarded(operation, *values)
        shape = blocks[0].shape
        if any(block.shape != shape for block in blocks):
            raise FormulaError("ranges of two shapes stand in one expression")
        self._spend(len(blocks[0].flat))
        flat = [
            _guarded(operation, *(value.flat[at] if isinstance(value, Block) else value for value in values))
            for at in range(len(blocks[0].flat))
        ]
        return Block(flat, shape)

    def _cell(self, column: int, row: int) -> Value:
        if (column, row) == self._own:
            raise FormulaError("it refers to its own cell")
        return self._cells.get((column, row))

    def _block(self, first: tuple[int, int], last: tuple[int, int]) -> Block:
        (left, top), (right, bottom) = first, last
        top, bottom = top or 1, bottom or self._size[1]
        left, right = sorted((left, right))
        top, bottom = sorted((top, bottom))
        self._spend((right - left + 1) * (bottom - top + 1))
        rows = range(top, bottom + 1)
        columns = range(left, right + 1)
        return Block(
            [self._cell(column, row) for row in rows for column in columns], (len(rows), len(columns))
        )

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise FormulaError("it takes too many steps")


def _tokens(source: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(source.rstrip())
    while at < end:
        token = _TOKEN.match(source, at)
        if token is None or token.lastgroup is None:
            raise FormulaError(f"{source[at : at + 12]!r} cannot be read")
        found.append((token.lastgroup, token[token.lastgroup]))
        at = token.end()
    return found


def _corner(word: str) -> tuple[int, int]:
    """`$D$12` as (4, 12), a whole column as row 0."""
    found = _CORNER.fullmatch(word.strip())
    if found is None:
        raise FormulaError(f"{word!r} is no cell")
    column = 0
    for letter in found[1].upper():
        column = 26 * column + ord(letter) - ord("A") + 1
    if found[2] == "0":
        raise FormulaError("rows count from 1")
    return column, int(found[2] or 0)


def _guarded(operation: Callable[..., Value], *values: Value) -> Value:
    try:
        return operation(*values)
    except (ArithmeticError, ValueError) as error:
        raise FormulaError(str(error)) from None


def _power(base: Value, exponent: Value) -> Value:
    return math.pow(number(base), number(exponent))


_OPERATIONS: dict[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: number(a) + number(b),
    "-": lambda a, b: number(a) - number(b),
    "*": lambda a, b: number(a) * number(b),
    "/": lambda a, b: number(a) / number(b),
    "^": _power,
    "&": lambda a, b: text(a) + text(b),
    "=": lambda a, b: compared(a, b) == 0,
    "<>": lambda a, b: compared(a, b) != 0,
    "<": lambda a, b: compared(a, b) < 0,
    ">": lambda a, b: compared(a, b) > 0,
    "<=": lambda a, b: compared(a, b) <= 0,
    ">=": lambda a, b: compared(a, b) >= 0,
}
