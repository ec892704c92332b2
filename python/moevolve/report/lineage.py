"""The tree of variants, rebuilt from a journal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from moevolve.journal.archive import Archive, Variant
from moevolve.records import Entry, Gated, Proposed, RolledBack, RunStarted, Screened, Struct, VariantAdded

Standing = Literal["champion", "kept", "rejected", "candidate"]


class LineageRow(Struct, frozen=True):
    """A variant in the order of a tree that is read from the top."""

    variant: str
    parent: str | None
    depth: int
    level: str
    cycle: int
    operator: str
    summary: str
    score: float | None
    standing: Standing
    ancestor: bool
    """Whether it is the champion or one of the champion's ancestors."""


def archive_of(entries: Iterable[Entry]) -> Archive:
    """The archive as it stood after these entries, rejected variants included."""
    archive = Archive()
    standings = _standings(entries := list(entries))
    for record in _added(entries):
        archive.add(
            Variant(
                record.variant,
                record.parents,
                record.cycle,
                record.weights,
                record.program,
                record.level,
                record.operator,
                record.summary,
                record.score,
                standings[record.variant],
            )
        )
    return archive


def lineage(entries: Iterable[Entry]) -> list[LineageRow]:
    """The variants as a tree, children under their parent in order of birth."""
    standings = _standings(entries := list(entries))
    added = {record.variant: record for record in _added(entries)}
    children: dict[str | None, list[str]] = {}
    for record in added.values():
        children.setdefault(
            record.parents[0] if record.parents and record.parents[0] in added else None, []
        ).append(record.variant)
    champion: str | None = next(
        (name for name, standing in standings.items() if standing == "champion"), None
    )
    ancestors = set()
    while champion is not None and champion not in ancestors:
        ancestors.add(champion)
        champion = next(iter(added[champion].parents), None) if champion in added else None
    rows = []
    waiting = [(name, 0) for name in reversed(children.get(None, []))]
    while waiting:
        name, depth = waiting.pop()
        record = added[name]
        rows.append(
            LineageRow(
                variant=name,
                parent=next(iter(record.parents), None),
                depth=depth,
                level=record.level,
                cycle=record.cycle,
                operator=record.operator,
                summary=record.summary,
                score=record.score,
                standing=standings[name],
                ancestor=name in ancestors,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(children.get(name, []))]
    return rows


def _added(entries: Iterable[Entry]) -> Iterable[VariantAdded]:
    return (entry.record for entry in entries if isinstance(entry.record, VariantAdded))


def _standings(entries: Iterable[Entry]) -> dict[str, Standing]:
    """What became of each variant: the newest word of screen and gate."""
    standings: dict[str, Standing] = {}
    champion = ""
    for entry in entries:
        record = entry.record
        if isinstance(record, RunStarted):
            champion = record.champion
        elif isinstance(record, VariantAdded):
            standings.setdefault(record.variant, "champion" if record.variant == champion else "candidate")
        elif isinstance(record, Proposed) and record.level == "program":
            # An edit of improve.py or learn.py alone is kept unscreened: it shows in what comes of it.
            standings[record.variant] = "kept"
        elif isinstance(record, Screened):
            standings[record.variant] = "kept" if record.passed else "rejected"
        elif isinstance(record, RolledBack):
            standings[champion], champion = "kept", record.champion
            standings[champion] = "champion"
        elif isinstance(record, Gated):
            if record.decision == "promote":
                if champion in standings:
                    standings[champion] = "kept"
                champion = record.candidate
                standings[champion] = "champion"
            else:
                standings[record.candidate] = "kept" if record.decision == "archive" else "rejected"
    return standings
