"""The gate's decision behind a change of the champion, where a person approved it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from moevolve.records import Controlled, Entry, Gated, Record

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

LOOKED = 1000
"""Newest decisions that are looked at."""


def decision_about(view: RunView, read: Callable[[int], Entry | None], variant: str) -> Gated | None:
    """The gate's newest decision about a variant, of the last thousand.

    Args:
        view: the run's.
        read: the entry of a sequence number; None where it cannot be read.
        variant: the candidate.
    """
    for seq in reversed(view.gates[-LOOKED:]):
        entry = read(seq)
        if entry is not None and isinstance(entry.record, Gated) and entry.record.candidate == variant:
            return entry.record
    return None


def behind(view: RunView, read: Callable[[int], Entry | None], seq: int) -> Record | None:
    """The record of a change of the champion; of a person's approval the decision that it let stand."""
    entry = read(seq)
    if entry is None:
        return None
    record = entry.record
    if isinstance(record, Controlled) and record.command == "approve":
        return decision_about(view, read, record.variant) or record
    return record
