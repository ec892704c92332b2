"""Promoted weights taken apart, in figures: alone, with the program they came with, with one that was searched for after."""

from __future__ import annotations

import msgspec

from moevolve.journal.intervals import paired_gain
from moevolve.records import Ablated, Interval, Record
from moevolve.report.score import ends, short


class PartFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A score with its 95 % interval over `n` tasks."""

    score: float
    ci: tuple[float, float]
    n: int


class AblationFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One promotion of weights, scored on one set of fresh dev tasks; what was not measured is absent."""

    cycle: int
    weights: str
    """The variant whose weights were promoted."""
    bare: PartFigures | None = None
    old_program: PartFigures | None = None
    searched_program: PartFigures | None = None
    variant: str | None = None
    """Whose the searched program is."""
    promoted: bool
    """Whether that one became the champion."""
    gain: float | None = None
    """Of the searched program over the old one, paired."""
    gain_ci: tuple[float, float] | None = None


def ablation(record: Record) -> AblationFigures:
    """The figures of a record of kind `ablated`."""
    assert isinstance(record, Ablated), "the view names the ablations"
    gain = None
    if record.searched is not None and record.old is not None:
        gain = paired_gain(record.outcomes["old"], record.outcomes["searched"])
    return AblationFigures(
        cycle=record.cycle,
        weights=record.weights,
        bare=_part(record.bare),
        old_program=_part(record.old),
        searched_program=_part(record.searched),
        variant=record.variant,
        promoted=record.promoted,
        gain=short(gain[0]) if gain else None,
        gain_ci=(short(gain[1][0]), short(gain[1][1])) if gain else None,
    )


def _part(score: Interval | None) -> PartFigures | None:
    if score is None:
        return None
    return PartFigures(score=short(score.mean), ci=ends(score), n=score.n)
