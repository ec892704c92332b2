"""Optimisation runs: verdicts of an evaluator, and decisions about better programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moevolve.journal.averages import mean
from moevolve.journal.figures import counted, number
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.text import line
from moevolve.records import Improved, Null, NullSearched, Rated

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

NULLS: dict[Null, str] = {
    "best_of": "the best of as many children of the first program",
    "random_search": "random search",
}
"""What each null is called."""


@says(Rated)
def _rated(record: Rated) -> Said:
    again = " again" if record.purpose == "recheck" else ""
    name = f"{line(record.variant)}{again}"
    if record.failure is not None:
        detail = line(record.detail.strip().splitlines()[-1]) if record.detail.strip() else ""
        return f"{name}: {line(record.failure)}" + (f", {detail[:120]}" if detail else ""), "faint"
    return f"{name}: {number(record.score)}", "quiet"


@folds(Rated)
def _rate(view: RunView, record: Rated, seq: int, at: float) -> None:
    row = view.variants.row(record.variant)
    view.ratings.take(record, row, seq)
    if row is None or record.purpose != "candidate":
        return
    if operator := view.variants.operator(row):
        view.accounts.rated(operator, record.score)
    if view.variants.fate(row) == "proposed":
        view.variants.settle(row, "failed" if record.score is None else "kept")


@says(Improved)
def _improved(record: Improved) -> Said:
    means = [
        number(mean(scores)) if scores else "none"
        for scores in (record.candidate_scores, record.champion_scores)
    ]
    fate = "PROMOTED" if record.decision == "promote" else "Kept in the archive:"
    by = ""
    if record.rule == "permutation":
        n = counted(len(record.candidate_scores), "evaluation")
        by = (
            f", mean of {n}, p {record.p:.4f} at {record.alpha:.4f}"
            if record.p is not None
            else f", mean of {n}"
        )
    tone = "good" if record.decision == "promote" else "warn"
    return f"{fate} {line(record.candidate)} {means[0]} against {line(record.champion)} {means[1]}{by}", tone  # type: ignore[return-value]


@folds(Improved)
def _improve(view: RunView, record: Improved, seq: int, at: float) -> None:
    view.ratings.decide(record, seq)
    if record.decision == "promote":
        row = view.variants.row(record.candidate)
        if row is not None:
            view.variants.settle(row, "promoted")
            ours, theirs = record.candidate_scores, record.champion_scores
            better = mean(ours) - mean(theirs) if ours and theirs else 0.0
            view.accounts.improved(view.variants.operator(row), better if math.isfinite(better) else 0.0)
        view.crown(record.candidate, seq)


@says(NullSearched)
def _null_searched(record: NullSearched) -> Said:
    failed = f", {record.failed:,} of them failed" if record.failed else ""
    return (
        f"At {counted(record.evaluations, 'evaluation')}{failed}, {NULLS[record.null]} came to "
        f"{number(record.score)} by {line(record.champion)}",
        "curve",
    )


@folds(NullSearched)
def _search_null(view: RunView, record: NullSearched, seq: int, at: float) -> None:
    view.ratings.nulls[record.null] = record
