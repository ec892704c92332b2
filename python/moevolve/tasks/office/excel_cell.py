"""One formula for one cell: a list, and what its cell H1 should say. Graded by computing the formula on changed copies.

An answer that holds for the given numbers alone is wrong: a constant, a look-up of the given list, a formula for another
column that happens to agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from random import Random
from statistics import fmean

import msgspec

from moevolve.tasks.office import sheet as sheets
from moevolve.tasks.office.formula import Formula
from moevolve.tasks.office.functions import FUNCTIONS
from moevolve.tasks.office.sheet import Sheet
from moevolve.tasks.office.values import FormulaError, Value
from moevolve.tasks.office.wording import FRAMES, asked, voice_of
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import Families
from moevolve.tasks.task import Task, Verdict

CLOSE = 1e-6
"""Largest difference of two numbers that count as one, as a share of the larger."""
TRIES = 64
"""Draws of changed copies before some are found that tell a right formula from a constant."""
ASK = "\nAsk: "
END = "\nFormula:"


class Kind(msgspec.Struct, frozen=True):
    """A kind of cell: a formula that gives it, and what it is, computed without one."""

    formula: str
    """With the slots of `_slots`, and `Q`, `P`, `G`, `H` for ranges."""
    truth: Callable[[Sheet, Mapping[str, object]], Value]


def _column(sheet: Sheet, name: object) -> list[float]:
    at = sheet.names.index(str(name))
    return [float(row[at]) for row in sheet.rows]


def _of(sheet: Sheet, slots: Mapping[str, object], *, both: bool = False) -> list[float]:
    """The numbers of `q` in the rows of member `k`, or of `k` and `j`."""
    at, beside = sheet.names.index(str(slots["g"])), sheet.names.index(str(slots["h"]))
    values = zip(_column(sheet, slots["q"]), sheet.rows, strict=True)
    return [
        value for value, row in values if row[at] == slots["k"] and (not both or row[beside] == slots["j"])
    ]


LEVELS: tuple[dict[str, Kind], ...] = (
    {
        "total": Kind("=SUM({Q})", lambda s, x: fsum(_column(s, x["q"]))),
        "largest": Kind("=MAX({Q})", lambda s, x: max(_column(s, x["q"]))),
        "smallest": Kind("=MIN({Q})", lambda s, x: min(_column(s, x["q"]))),
    },
    {
        "mean": Kind("=AVERAGE({Q})", lambda s, x: fmean(_column(s, x["q"]))),
        "above": Kind(
            '=COUNTIF({Q},">{n}")',
            lambda s, x: float(sum(value > float(str(x["n"])) for value in _column(s, x["q"]))),
        ),
        "count": Kind('=COUNTIF({G},"{k}")', lambda s, x: float(len(_of(s, x)))),
    },
    {
        "total_of": Kind('=SUMIF({G},"{k}",{Q})', lambda s, x: fsum(_of(s, x))),
        "mean_of": Kind('=AVERAGEIF({G},"{k}",{Q})', lambda s, x: fmean(_of(s, x))),
        "product": Kind(
            "=SUMPRODUCT({Q},{P})",
            lambda s, x: fsum(a * b for a, b in zip(_column(s, x["q"]), _column(s, x["p"]), strict=True)),
        ),
    },
    {
        "total_of_two": Kind('=SUMIFS({Q},{G},"{k}",{H},"{j}")', lambda s, x: fsum(_of(s, x, both=True))),
        "share": Kind(
            '=SUMIF({G},"{k}",{Q})/SUM({Q})', lambda s, x: fsum(_of(s, x)) / fsum(_column(s, x["q"]))
        ),
        "verdict": Kind(
            '=IF(AVERAGE({Q})>{n},"high","low")',
            lambda s, x: "high" if fmean(_column(s, x["q"])) > float(str(x["n"])) else "low",
        ),
    },
)
"""Kinds of cells by level."""


class Check(msgspec.Struct, frozen=True):
    """Computes a formula on some lists and compares it with what it should say.

    Attributes:
        lists: the given list and changed copies.
        truths: what the cell says of each.
    """

    lists: tuple[Sheet, ...]
    truths: tuple[Value, ...]

    def __call__(self, answer: str) -> Verdict:
        """The verdict on an answer."""
        try:
            formula = Formula(answer.strip(), FUNCTIONS)
        except FormulaError as error:
            return Verdict(score=0.0, success=False, failure="malformed", detail=str(error))
        try:
            right = [self._agrees(formula, *each) for each in zip(self.lists, self.truths, strict=True)]
        except FormulaError as error:
            return Verdict(score=0.0, success=False, failure="wrong", detail=f"it comes to no value: {error}")
        if all(right):
            return Verdict(score=1.0, success=True)
        where = "the given list" if not right[0] else "a changed copy of the list"
        return Verdict(score=0.0, success=False, failure="wrong", detail=f"another value on {where}")

    def _agrees(self, formula: Formula, sheet: Sheet, truth: Value) -> bool:
        value = formula.value(sheet.cells(), (len(sheet.names), sheet.last), sheets.ANSWER, sheet.ranges())
        if isinstance(truth, float) and isinstance(value, float) and not isinstance(value, bool):
            return abs(value - truth) <= CLOSE * max(1.0, abs(truth))
        return type(value) is type(truth) and value == truth


def excel_cell(rng: Random, level: int) -> Task:
    """A task: the list's columns and rows, what the cell should say, and a check."""
    sheet, theme = sheets.drawn(rng)
    kind = rng.choice(sorted(LEVELS[level - 1]))
    slots = _slots(rng, sheet)
    cell = LEVELS[level - 1][kind]
    hidden = Random(rng.getrandbits(64))
    for _ in range(TRIES):
        lists = (sheet, *sheets.changed(hidden, sheet, theme))
        truths = _truths(cell, lists, slots)
        if truths is not None and _telling(truths):
            break
        slots = _slots(rng, sheet)
    else:
        raise ValueError(f"no copies tell a formula for {kind} from a constant")
    words = asked(kind, rng.randrange(len(FRAMES)), **{name: _said(value) for name, value in slots.items()})
    return Task(
        prompt=f"{sheet.described}{ASK}{words}{END}",
        answer=cell.formula.format(**_ranges(sheet, slots)),
        grade=Check(lists, truths),
    )


def _telling(truths: Sequence[Value]) -> bool:
    """Whether changed copies differ among themselves, so that what was made for the given list is not right for them too."""
    return len(set(truths[1:])) >= (2 if isinstance(truths[0], str) else 3)


def _truths(cell: Kind, lists: Sequence[Sheet], slots: Mapping[str, object]) -> tuple[Value, ...] | None:
    """What a cell says of each list; None where it says nothing of one, such as a mean over no rows."""
    try:
        return tuple(cell.truth(each, slots) for each in lists)
    except (ValueError, ZeroDivisionError):
        return None


def _slots(rng: Random, sheet: Sheet) -> dict[str, object]:
    """What an ask is about: columns of numbers `q` and `p`, groups `g` and `h`, members `k` and `j`, a threshold `n`."""
    q, p = rng.sample((3, 4), 2)
    g, h = rng.sample((1, 2), 2)
    row, values = rng.choice(sheet.rows), sorted(_column(sheet, sheet.names[q]))
    return {
        "q": sheet.names[q],
        "p": sheet.names[p],
        "g": sheet.names[g],
        "h": sheet.names[h],
        "k": row[g],
        "j": row[h],
        "n": int(values[len(values) // 2]),
    }


def _said(value: object) -> str:
    return str(value)


def _ranges(sheet: Sheet, slots: Mapping[str, object]) -> dict[str, object]:
    return {**slots, **{name.upper(): slots[name] for name in "qpgh"}}


def voice(prompt: str) -> str | None:
    """The name of the voice that a prompt is in; None of what is no prompt of this skill."""
    head, found, rest = prompt.partition(ASK)
    if not found or not head.startswith("Named ranges: ") or not rest.endswith(END):
        return None
    number = voice_of(rest.removesuffix(END))
    return None if number is None else str(number)


EXCEL_CELL = Skill(
    path="office/excel_cell",
    summary="write the formula of one cell",
    generator=excel_cell,
    levels=(1, len(LEVELS)),
    families=Families(tuple(map(str, range(len(FRAMES)))), voice),
)
