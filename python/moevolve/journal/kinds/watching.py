"""Who watches a run: what its guards checked and vetoed, and what a person asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.guards import GuardCounts
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.kinds.variants import promote
from moevolve.journal.text import line
from moevolve.records import Controlled, Guarded, Imported

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

_ASKED = {
    "approve": "Approved by a person:",
    "reject": "Refused by a person:",
    "pause": "Paused by a person",
    "stop": "Stopped by a person",
    "rollback": "Rolled back by a person:",
}


@says(Guarded)
def _guarded(record: Guarded) -> Said:
    detail = f": {line(record.detail)}" if record.detail else ""
    did = "ALARM, vetoed" if record.alarm else "vetoed"
    return (
        f"Guard {line(record.guard)} {did} {record.vetoed:,} of {record.checked:,}{detail}",
        "bad" if record.vetoed or record.alarm else "quiet",
    )


@folds(Guarded)
def _guard(view: RunView, record: Guarded, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.check(record.guard, seq)
    if record.alarm:
        view.alarms.append(seq)
    checked, vetoed, alarms = view.guards.get(record.guard, GuardCounts())
    view.guards[record.guard] = GuardCounts(
        checked + record.checked, vetoed + record.vetoed, alarms + record.alarm
    )


@says(Controlled)
def _controlled(record: Controlled) -> Said:
    words = f"{_ASKED[record.command]} {line(record.variant)}".rstrip()
    if not record.done:
        return f"Not done: {words.lower()}; {line(record.detail)}", "warn"
    detail = f"; {line(record.detail)}" if record.detail else ""
    return f"{words}{detail}", "good" if record.command == "approve" else "warn"


@says(Imported)
def _taken_up(record: Imported) -> Said:
    if not record.done:
        return f"A program from elsewhere is no candidate: {line(record.detail)}", "warn"
    return f"A program from elsewhere, {record.program[:12]}, is a candidate of the next generation", "quiet"


@folds(Imported)
def _import(view: RunView, record: Imported, seq: int, at: float) -> None:
    view.requests = max(view.requests, record.request)


@folds(Controlled)
def _control(view: RunView, record: Controlled, seq: int, at: float) -> None:
    view.requests = max(view.requests, record.request)
    if not record.done or not record.variant:
        return
    if record.command == "rollback":
        if not view.memory.take_back(record.variant):
            view.growth.roll_back(line(record.variant), view.skills)
        return
    view.waiting = [name for name in view.waiting if name != record.variant]
    row = view.variants.row(record.variant)
    if row is not None:
        view.variants.settle(row, "promoted" if record.command == "approve" else "refused")
    if record.command == "approve" and record.level is not None:
        # The others were compared with the champion before.
        for name in view.waiting:
            if (row := view.variants.row(name)) is not None:
                view.variants.settle(row, "kept")
        view.waiting = []
        promote(view, record.cycle, record.level, record.variant, seq)
