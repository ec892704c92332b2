"""The variants of a run by columns: what a reader needs of each, without an object for each.

A variant's words (operator, summary, hashes) stay in the journal, at the entry that its row names.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

from moevolve.journal.text import line
from moevolve.records import VariantAdded

Fate = Literal[
    "seed",
    "proposed",
    "screened",
    "screened out",
    "not screened",
    "chosen",
    "not chosen",
    "promoted",
    "kept",
    "discarded",
    "undecided",
    "rolled back",
    "waiting",
    "vetoed",
    "refused",
    "failed",
]
"""What became of a variant. `proposed`, `screened` and `chosen` wait for what comes next, `waiting` for a person, who may
say no: `refused`. `failed` is a program that its evaluator gave no score."""
FATES: tuple[Fate, ...] = get_args(Fate)
_CODES = {fate: code for code, fate in enumerate(FATES)}
_LEVELS = ("weights", "program", "seed")
_NONE = -1


OPERATORS = 200
"""Most operators that are told apart; of more the rest is one, `OTHERS`."""
OTHERS = "others"


class Variants:
    """Rows in the order of birth, numbered from 0."""

    def __init__(self) -> None:
        self._first = array("i")
        self._second = array("i")
        self._cycle = array("i")
        self._level = array("b")
        self._fate = array("b")
        self._screening = array("d")
        self._gain = array("d")
        self._tasks = array("i")
        self._entry = array("q")
        self._operator = array("h")
        self._operators: list[str] = []
        self._codes: dict[str, int] = {}
        # Names are `v` and the row's number unless they stand here.
        self._names: dict[int, str] = {}
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def add(self, record: VariantAdded, entry: int) -> int:
        """Adds a row; returns its number. A variant that is there already stays as it is."""
        row = self._find(record.variant)
        if row is not None:
            return row
        row = len(self._first)
        if record.variant != f"v{row:04d}":
            self._names[row] = record.variant
            self._rows[record.variant] = row
        parents = [found for name in record.parents if (found := self._find(name)) is not None]
        self._first.append(parents[0] if parents else _NONE)
        self._second.append(parents[1] if len(parents) > 1 else _NONE)
        self._cycle.append(record.cycle)
        self._level.append(_LEVELS.index(record.level))
        self._fate.append(_CODES["seed" if record.level == "seed" else "proposed"])
        self._screening.append(math.nan)
        self._gain.append(math.nan)
        self._tasks.append(0)
        self._entry.append(entry)
        self._operator.append(self._code(record.operator) if record.level != "seed" else _NONE)
        return row

    def _code(self, operator: str) -> int:
        code = self._codes.get(operator)
        if code is None:
            name = line(operator, 40) if len(self._operators) < OPERATORS else OTHERS
            code = self._codes.get(name)
            if code is None:
                code = len(self._operators)
                self._operators.append(name)
            for key in (operator, name):
                if key == name or len(self._codes) < 2 * OPERATORS:
                    self._codes[key] = code
        return code

    def operator(self, row: int) -> str:
        """What made a variant, harmless; empty for the seed."""
        code = self._operator[row]
        return "" if code == _NONE else self._operators[code]

    def _find(self, name: str) -> int | None:
        if name[:1] == "v" and name[1:].isdecimal() and name.isascii():
            row = int(name[1:])
            if row < len(self._first) and row not in self._names and name == f"v{row:04d}":
                return row
        return self._rows.get(name)

    def row(self, name: str) -> int | None:
        """The row of a variant, None where there is none of this name."""
        return self._find(name)

    def name(self, row: int) -> str:
        return self._names.get(row) or f"v{row:04d}"

    def parents(self, row: int) -> list[int]:
        """Rows of the variants it was made from, the first one first."""
        return [parent for parent in (self._first[row], self._second[row]) if parent != _NONE]

    def cycle(self, row: int) -> int:
        return self._cycle[row]

    def level(self, row: int) -> Literal["weights", "program", "seed"]:
        return _LEVELS[self._level[row]]  # type: ignore[return-value]

    def fate(self, row: int) -> Fate:
        return FATES[self._fate[row]]

    def screening(self, row: int) -> float | None:
        """Its own score on train tasks, None where it was not screened."""
        return None if math.isnan(value := self._screening[row]) else value

    def gain(self, row: int) -> float | None:
        """The gate's mean paired difference, None where the gate did not see it."""
        return None if math.isnan(value := self._gain[row]) else value

    def tasks(self, row: int) -> int:
        """Paired tasks at the gate."""
        return self._tasks[row]

    def entry(self, row: int) -> int:
        """Sequence number of the entry that added it."""
        return self._entry[row]

    def fates(self) -> dict[Fate, int]:
        """How many variants came to which fate."""
        found = Counter(self._fate)
        return {fate: found[code] for code, fate in enumerate(FATES) if found[code]}

    def settle(self, row: int, fate: Fate) -> None:
        """Says what became of a variant."""
        self._fate[row] = _CODES[fate]

    def screen(self, row: int, score: float) -> None:
        """Notes a screening score."""
        self._screening[row] = score

    def decide(self, row: int, gain: float, tasks: int) -> None:
        """Notes what the gate measured."""
        self._gain[row], self._tasks[row] = gain, tasks

    def ancestry(self, row: int) -> list[int]:
        """The variant and all that its weights and its program come from, oldest first."""
        line, waiting = {row}, [row]
        while waiting:
            fresh = [parent for parent in self.parents(waiting.pop()) if parent not in line]
            line.update(fresh)
            waiting += fresh
        return sorted(line)

    def tree(self) -> Iterator[tuple[int, int]]:
        """(row, depth) as a tree by first parents is read from the top, children in order of birth."""
        count = len(self)
        child, sibling = array("i", [_NONE]) * count, array("i", [_NONE]) * count
        roots = []
        for row in range(count - 1, -1, -1):
            parent = self._first[row]
            if parent == _NONE:
                roots.append(row)
            else:
                sibling[row], child[parent] = child[parent], row
        waiting = [(row, 0) for row in roots]
        while waiting:
            row, depth = waiting.pop()
            yield row, depth
            if sibling[row] != _NONE:
                waiting.append((sibling[row], depth))
            if child[row] != _NONE:
                waiting.append((child[row], depth + 1))
