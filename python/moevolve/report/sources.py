"""What a report takes from a run's store beside its journal: programs' diffs, sessions, experts' load."""

from __future__ import annotations

import difflib
import time
from typing import Protocol, runtime_checkable

from moevolve.errors import StoreError
from moevolve.journal import decisions
from moevolve.journal.averages import mean
from moevolve.journal.programs import program_files
from moevolve.journal.reader import RunReader
from moevolve.journal.text import line, lines
from moevolve.records import Gated, Improved, Session, Struct, Trained

DIFFS = 40
"""Most promotions whose diffs are shown, the newest."""
LINES = 2000
"""Most lines of one diff."""


@runtime_checkable
class Kept(Protocol):
    """A store that keeps programs and sessions."""

    def blob(self, hash: str) -> bytes: ...
    def sessions(self, limit: int = 100) -> list[Session]: ...


class Change(Struct, frozen=True):
    """A promotion, and what it changed."""

    variant: str
    before: str
    cycle: int
    level: str
    gain: float
    n: int
    diff: list[str]
    """Lines of the program's unified diff; empty where weights changed, or where the sources are not on file."""


def changes(reader: RunReader) -> list[Change]:
    """Promotions with their diffs, the oldest first."""
    found = []
    for seq in list(reader.view.changes)[-DIFFS:]:
        record = decisions.behind(reader.view, reader.entry, seq)
        if isinstance(record, Improved):
            ours, theirs = record.candidate_scores, record.champion_scores
            found.append(
                Change(
                    variant=line(record.candidate),
                    before=line(record.champion),
                    cycle=record.evaluation,
                    level="program",
                    gain=mean(ours) - mean(theirs) if ours and theirs else 0.0,
                    n=len(ours),
                    diff=_diff(reader, record.champion, record.candidate),
                )
            )
        if not isinstance(record, Gated):
            continue
        found.append(
            Change(
                variant=line(record.candidate),
                before=line(record.champion),
                cycle=record.cycle,
                level=record.level,
                gain=record.gain,
                n=record.n,
                diff=_diff(reader, record.champion, record.candidate),
            )
        )
    return found


def changed(reader: RunReader, before: int, after: int) -> set[str]:
    """The files in which the programs of two variants' rows differ; none where a source is not on file."""
    old, new = _files(reader, before, after)
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def _files(reader: RunReader, *rows: int) -> tuple[dict[str, str], dict[str, str]]:
    store = reader.store
    if not isinstance(store, Kept):
        return {}, {}
    try:
        old, new = (program_files(store, reader.variant(row).program) for row in rows)
    except StoreError:
        return {}, {}
    return old, new


def _diff(reader: RunReader, before: str, after: str) -> list[str]:
    rows = [row for name in (before, after) if (row := reader.view.variants.row(name)) is not None]
    old, new = _files(reader, *rows) if len(rows) == 2 else ({}, {})
    found: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        first, second = (lines(files.get(path, "")).split("\n") for files in (old, new))
        found += difflib.unified_diff(first, second, line(path), line(path), n=3, lineterm="")
    return found[:LINES]


def sessions(reader: RunReader) -> list[tuple[Session, str]]:
    """The processes that wrote the run, each with its date in UTC."""
    store = reader.store
    found = store.sessions() if isinstance(store, Kept) else []
    return [(each, _date(each.began)) for each in found]


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if 0 <= seconds < 1e11 else ""


def trained(reader: RunReader) -> Trained | None:
    """The newest record of training; None where nothing was trained."""
    losses = reader.view.losses
    record = reader.entry(losses.entries[-1]).record if len(losses) else None
    return record if isinstance(record, Trained) else None
