"""What the skill tree grew: changes with their trials, and the growth column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.figures import counted, score
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.text import line
from moevolve.records import Grown, GrowthScored

if TYPE_CHECKING:
    from moevolve.journal.view import RunView


def said(change: str, skill: str, parents: list[str], leaves: list[tuple[str, tuple[int, int]]]) -> str:
    """A change in words: `text/sort opens levels up to 18`."""
    match change:
        case "levels":
            return f"{skill} opens levels up to {leaves[0][1][1] if leaves else 0}"
        case "compose":
            return f"{skill} of {' and then '.join(parents)}"
        case "split":
            return f"{skill} splits into {' and '.join(path for path, _ in leaves)}"
    return f"{' and '.join(path for path, _ in leaves)} retired"


@says(Grown)
def _grown(record: Grown) -> Said:
    words = said(
        record.change,
        line(record.skill),
        [line(path) for path in record.parents],
        [(line(leaf.path), leaf.levels) for leaf in record.leaves],
    )
    what = "Tree grows" if record.decision == "added" else "Tried, not added"
    return f"{what}, {line(record.growth)}: {words} ({line(record.reason)})", (
        "good" if record.decision == "added" else "quiet"
    )


@folds(Grown)
def _grow(view: RunView, record: Grown, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.growth.take(record, seq, view.skills)
    known = view.skills.keys() | view.growth.skills.keys()
    if record.decision == "added":
        view.count(tally for tally in record.trial if line(tally.skill) in known)


@says(GrowthScored)
def _scored(record: GrowthScored) -> Said:
    n = sum(share.n for share in record.skills.values())
    mean = sum(share.score * share.n for share in record.skills.values()) / n if n else None
    found = "no answer" if mean is None else f"{score(mean)} on {counted(n, 'sealed task')}"
    leaves = "1 leaf" if len(record.skills) == 1 else f"{len(record.skills):,} leaves"
    return f"Growth column, in no score: {leaves}, {found}", "sealed"


@folds(GrowthScored)
def _score(view: RunView, record: GrowthScored, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.growth.score(record)
    view.count(record.tallies)
