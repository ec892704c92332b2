"""Promises and what was measured of them: the rows that `gate.py` and `guards.py` print."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One line of the result."""

    name: str
    value: float
    bound: float
    at_most: bool
    note: str = ""

    @property
    def kept(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def told(rows: Sequence[Row], as_json: bool, require: bool) -> int:
    """Prints rows; the exit code is 1 where promises are required and one is not kept."""
    if as_json:
        print(json.dumps([msgspec.to_builtins(row) | {"kept": row.kept} for row in rows], indent=1))
    else:
        for row in rows:
            sign = "<=" if row.at_most else ">="
            print(
                f"{'ok' if row.kept else '!!'}  {row.name}: {row.value:.4f} ({sign} {row.bound:.4g}); {row.note}"
            )
    return int(require and not all(row.kept for row in rows))
