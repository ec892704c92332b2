"""Generalisation: the first variant and the champion beside each other on what the run never worked on, in no score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.figures import counted, interval
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.text import line
from moevolve.records import Generalised

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

COLUMNS = {
    "G0": "same tasks",
    "G1": "new tasks",
    "G2": "new levels",
    "G3": "other skill",
    "G4": "other branch",
}
"""What each column is measured on; G1 is the sealed score."""


@says(Generalised)
def _generalised(record: Generalised) -> Said:
    what = f"{record.column}, {COLUMNS[record.column]}, in no score"
    if record.reason:
        return f"{what}: not measured ({line(record.reason)})", "quiet"
    seed, champion = (
        "without a score" if each is None else interval(each) for each in (record.seed, record.champion)
    )
    tasks = counted(sum(n for _, _, n in record.cells), "task")
    return f"{what}: the seed {seed}, {line(record.variant)} {champion} on {tasks}", "sealed"


@folds(Generalised)
def _generalise(view: RunView, record: Generalised, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.generalised[record.column] = record
