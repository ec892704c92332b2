"""The functions that formulas may call, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from statistics import fmean, median

from moevolve.tasks.office.values import Block, FormulaError, Value, compared, number, scalar, text

Test = Callable[[Value], bool]


def flat(values: Iterable[Value]) -> Iterator[Value]:
    """Single values, those of blocks one by one."""
    for value in values:
        if isinstance(value, Block):
            yield from value.flat
        else:
            yield value


def numbers(*values: Value) -> list[float]:
    """The numbers among cells, and single values as numbers: texts and truths in a range do not count."""
    found = []
    for value in values:
        if isinstance(value, Block):
            found += [each for each in value.flat if isinstance(each, float)]
        else:
            found.append(number(value))
    return found


def some(values: list[float]) -> list[float]:
    """The values.

    Raises:
        FormulaError: there are none.
    """
    if not values:
        raise FormulaError("no number to compute with")
    return values


def criterion(asked: Value) -> Test:
    """The test of a SUMIF: a value, or a comparison with one as `>3`; `*` and `?` stand for any letters."""
    asked = scalar(asked)
    if not isinstance(asked, str):
        return lambda value: value is not None and _alike(value, asked)
    sign = re.match(r"<=|>=|<>|<|>|=", asked)
    word = asked[sign.end() :] if sign else asked
    try:
        wanted: Value = float(word)
    except ValueError:
        wanted = word
    if sign and sign[0] in ("<", ">", "<=", ">="):
        return lambda value: _ordered(sign[0], value, wanted)
    matches = _pattern(word) if isinstance(wanted, str) else None

    def equal(value: Value) -> bool:
        if matches is not None:
            return isinstance(value, str) and matches.fullmatch(value) is not None
        return value is not None and _alike(value, wanted)

    return (lambda value: not equal(value)) if sign and sign[0] == "<>" else equal


def _alike(value: Value, wanted: Value) -> bool:
    return type(value) is type(wanted) and compared(value, wanted) == 0


def _ordered(sign: str, value: Value, wanted: Value) -> bool:
    if value is None or isinstance(value, bool) or isinstance(value, str) is not isinstance(wanted, str):
        return False
    order = compared(value, wanted)
    return {"<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0}[sign]


def _pattern(word: str) -> re.Pattern[str]:
    parts = re.findall(r"~[*?~]|[*?]|[^*?~]+|~", word)
    if sum(part == "*" for part in parts) > 4:
        raise FormulaError("a criterion with too many *")
    wild = {"*": ".*", "?": "."}
    return re.compile(
        "".join(wild.get(part, re.escape(part.lstrip("~") or "~")) for part in parts), re.I | re.S
    )


def _column(value: Value) -> list[Value]:
    if not isinstance(value, Block):
        raise FormulaError("a range is wanted")
    return value.flat


def _kept(size: int, pairs: tuple[Value, ...]) -> list[int]:
    """Places that pass every (range, criterion)."""
    if not pairs or len(pairs) % 2:
        raise FormulaError("criteria come in pairs: a range and what is wanted of it")
    kept = list(range(size))
    for where, asked in zip(pairs[::2], pairs[1::2], strict=True):
        column, test = _column(where), criterion(asked)
        if len(column) != size:
            raise FormulaError("ranges of two sizes stand in one function")
        kept = [at for at in kept if test(column[at])]
    return kept


def _chosen(what: Value, pairs: tuple[Value, ...]) -> list[float]:
    column = _column(what)
    return numbers(Block([column[at] for at in _kept(len(column), pairs)], (1, 1)))


def _sum_if(where: Value, asked: Value, what: Value = None) -> float:
    return math.fsum(_chosen(where if what is None else what, (where, asked)))


def _mean_if(where: Value, asked: Value, what: Value = None) -> float:
    return fmean(some(_chosen(where if what is None else what, (where, asked))))


def _count_ifs(*pairs: Value) -> float:
    return float(len(_kept(len(_column(pairs[0])), pairs)))


def _products(*columns: Value) -> float:
    blocks = [column if isinstance(column, Block) else Block([number(column)], (1, 1)) for column in columns]
    if any(block.shape != blocks[0].shape for block in blocks):
        raise FormulaError("ranges of two shapes stand in one function")

    def counted(value: Value) -> float:
        # Of one range alone truths count for nothing, as texts do.
        return value if isinstance(value, float) else 0.0

    return math.fsum(math.prod(map(counted, row)) for row in zip(*(b.flat for b in blocks), strict=True))


def _rounded(way: str) -> Callable[..., Value]:
    def rounded(value: Value, digits: Value = None) -> Value:
        places = int(number(digits))
        if not -15 <= places <= 15:
            raise FormulaError("too many digits")
        exact = Decimal(repr(round(number(value), 12)))
        return float(exact.quantize(Decimal(1).scaleb(-places), rounding=way))

    return rounded


def _index(block: Value, row: Value, column: Value = None) -> Value:
    if not isinstance(block, Block):
        raise FormulaError("INDEX looks into a range")
    rows, columns = block.shape
    at, beside = int(number(row)), 1 if column is None else int(number(column))
    if rows == 1 and column is None:
        at, beside = 1, at
    if not (1 <= at <= rows and 1 <= beside <= columns):
        raise FormulaError("INDEX points outside of its range")
    return block.flat[(at - 1) * columns + beside - 1]


def _match(wanted: Value, where: Value, kind: Value = 1.0) -> Value:
    if number(kind) != 0:
        raise FormulaError("MATCH finds exact values alone: its third argument is 0")
    test = criterion(wanted)
    return float(next(_found(_column(where), test)) + 1)


def _found(column: list[Value], test: Test) -> Iterator[int]:
    yield from (at for at, value in enumerate(column) if test(value))
    raise FormulaError("it is not found")


def _vlookup(wanted: Value, table: Value, column: Value, near: Value = True) -> Value:
    if not isinstance(table, Block) or number(near) != 0:
        raise FormulaError("VLOOKUP finds exact values alone: its fourth argument is FALSE")
    rows, columns = table.shape
    if not 1 <= number(column) <= columns:
        raise FormulaError("VLOOKUP points outside of its range")
    test = criterion(wanted)
    at = next(_found([table.flat[row * columns] for row in range(rows)], test))
    return table.flat[at * columns + int(number(column)) - 1]


def _xlookup(wanted: Value, where: Value, what: Value, otherwise: Value = None) -> Value:
    column, answers = _column(where), _column(what)
    if len(column) != len(answers):
        raise FormulaError("ranges of two sizes stand in one function")
    test = criterion(wanted)
    at = next((at for at, value in enumerate(column) if test(value)), None)
    if at is None and otherwise is None:
        raise FormulaError("it is not found")
    return otherwise if at is None else answers[at]


def _ranked(sign: int) -> Callable[[Value, Value], Value]:
    def ranked(values: Value, which: Value) -> Value:
        order = sorted(numbers(values), reverse=sign < 0)
        at = int(number(which))
        if not 1 <= at <= len(order):
            raise FormulaError("there are not so many numbers")
        return order[at - 1]

    return ranked


def _truths(values: Iterable[Value]) -> list[bool]:
    found = [value for value in flat(values) if value is not None and not isinstance(value, str)]
    if not found:
        raise FormulaError("no truth to judge by")
    return [bool(value) for value in found]


def _cut(text_: str, start: float, length: float) -> str:
    if start < 1 or length < 0:
        raise FormulaError("a part of a text begins at 1")
    return text_[int(start) - 1 : int(start) - 1 + int(length)]


def _joined(*values: Value) -> str:
    return text("".join(text(value) for value in flat(values)))


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "SUM": lambda *v: math.fsum(numbers(*v)),
    "PRODUCT": lambda *v: math.prod(some(numbers(*v))),
    "AVERAGE": lambda *v: fmean(some(numbers(*v))),
    "MEDIAN": lambda *v: median(some(numbers(*v))),
    "MIN": lambda *v: min(some(numbers(*v))),
    "MAX": lambda *v: max(some(numbers(*v))),
    "LARGE": _ranked(-1),
    "SMALL": _ranked(1),
    "COUNT": lambda *v: float(len(numbers(*v))),
    "COUNTA": lambda *v: float(sum(value is not None for value in flat(v))),
    "COUNTBLANK": lambda v: float(sum(value in (None, "") for value in _column(v))),
    "SUMIF": _sum_if,
    "AVERAGEIF": _mean_if,
    "COUNTIF": lambda where, asked: _count_ifs(where, asked),
    "SUMIFS": lambda what, *pairs: math.fsum(_chosen(what, pairs)),
    "AVERAGEIFS": lambda what, *pairs: fmean(some(_chosen(what, pairs))),
    "MAXIFS": lambda what, *pairs: max(some(_chosen(what, pairs))),
    "MINIFS": lambda what, *pairs: min(some(_chosen(what, pairs))),
    "COUNTIFS": _count_ifs,
    "SUMPRODUCT": _products,
    "ROUND": _rounded(ROUND_HALF_UP),
    "ROUNDUP": _rounded(ROUND_UP),
    "ROUNDDOWN": _rounded(ROUND_DOWN),
    "ABS": lambda v: abs(number(v)),
    "INT": lambda v: float(math.floor(number(v))),
    "MOD": lambda a, b: number(a) - number(b) * math.floor(number(a) / number(b)),
    "SQRT": lambda v: math.sqrt(number(v)),
    "POWER": lambda a, b: float(math.pow(number(a), number(b))),
    "INDEX": _index,
    "MATCH": _match,
    "VLOOKUP": _vlookup,
    "XLOOKUP": _xlookup,
    "ROWS": lambda v: float(v.shape[0]),
    "COLUMNS": lambda v: float(v.shape[1]),
    "AND": lambda *v: all(_truths(v)),
    "OR": lambda *v: any(_truths(v)),
    "NOT": lambda v: not number(v),
    "N": lambda v: v if isinstance(v, Block) else number(v),
    "LEN": lambda v: float(len(text(v))),
    "UPPER": lambda v: text(v).upper(),
    "LOWER": lambda v: text(v).lower(),
    "TRIM": lambda v: " ".join(text(v).split()),
    "LEFT": lambda v, n=1.0: _cut(text(v), 1, number(n)),
    "RIGHT": lambda v, n=1.0: text(v)[max(0, len(text(v)) - int(number(n))) :],
    "MID": lambda v, start, n: _cut(text(v), number(start), number(n)),
    "CONCATENATE": _joined,
    "CONCAT": _joined,
}
"""Name -> function of values; one that raises `TypeError`, `ValueError` and the like has come to no value."""
