"""Memory: what attempts recalled, what that was worth, and what outlives the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.figures import counted
from moevolve.journal.intervals import paired_gain
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.text import line
from moevolve.records import Consolidated, Outlived, Recalled, Remembered

PRACTICE = "program"
"""Stage of the champion's practice through its program."""

if TYPE_CHECKING:
    from moevolve.journal.view import RunView


@says(Recalled)
def _recalled(record: Recalled) -> Said:
    silent = f", {record.silent:,} without an answer" if record.silent else ""
    return (
        f"{counted(record.attempts, 'attempt')} of {line(record.variant)} ({line(record.stage)}) asked memory "
        f"{counted(record.recalls, 'time')}{silent}; {counted(len(record.lessons), 'lesson')} shown",
        "faint",
    )


@folds(Recalled)
def _recall(view: RunView, record: Recalled, seq: int, at: float) -> None:
    view.memory.recalls += record.recalls
    view.memory.silent += record.silent
    view.memory.practised += record.recalls * (record.stage == PRACTICE)


@says(Remembered)
def _remembered(record: Remembered) -> Said:
    parts = []
    gain = paired_gain(record.without, record.with_memory)
    if gain is not None:
        parts.append(
            f"memory brought {gain[0]:+.3f} in {counted(len(record.without), 'attempt')} tried twice"
        )
    if record.notes or record.refused:
        kept = f"kept {counted(record.notes, 'text')} of programs"
        parts.append(kept + (f", refused {sum(record.refused.values()):,}" if record.refused else ""))
    if record.trust:
        parts.append(f"weighed {counted(len(record.trust), 'lesson')}")
    if record.expired:
        parts.append(f"{len(record.expired):,} did harm and expired")
    return f"Memory: {'; '.join(parts) or 'nothing new'}", "quiet"


@folds(Remembered)
def _remember(view: RunView, record: Remembered, seq: int, at: float) -> None:
    view.generated += record.tokens
    memory = view.memory
    memory.pair(record.with_memory, record.without)
    memory.expired += len(record.expired)
    memory.notes += record.notes
    memory.refused += sum(record.refused.values())


@says(Consolidated)
def _consolidated(record: Consolidated) -> Said:
    what = f"{counted(len(record.sources), 'lesson')} of {line(record.skill)}"
    if record.decision == "declined":
        return f"Memory leaves {what} apart: {line(record.reason)}", "quiet"
    return f"Memory makes {what} one ({line(record.merge)}): {line(record.reason)}", "plain"


@folds(Consolidated)
def _consolidate(view: RunView, record: Consolidated, seq: int, at: float) -> None:
    view.memory.merge(record, seq)


@says(Outlived)
def _outlived(record: Outlived) -> Said:
    return f"{counted(len(record.lessons), 'lesson')} that helped may outlive the run", "plain"


@folds(Outlived)
def _outlive(view: RunView, record: Outlived, seq: int, at: float) -> None:
    view.memory.outlived = len(record.lessons)
