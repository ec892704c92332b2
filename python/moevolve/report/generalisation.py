"""Generalisation in figures: the first variant and the champion on the run's tasks and on what it never worked on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.journal.intervals import paired_gain
from moevolve.journal.kinds.generalise import COLUMNS
from moevolve.journal.scores import Gain
from moevolve.journal.text import line
from moevolve.journal.view import RunView
from moevolve.records import Generalised, Interval
from moevolve.report.score import ends, short


class BothFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A skill's score on the tasks that were answered."""

    initial: float | None = None
    final: float | None = None
    n: int
    """Tasks, answered or not."""


class ColumnFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column: the first variant's score and the champion's on `n` tasks, with 95 % intervals, and the paired gain."""

    what: str
    initial: float | None = None
    final: float | None = None
    initial_ci: tuple[float, float] | None = None
    final_ci: tuple[float, float] | None = None
    gain: float | None = None
    gain_ci: tuple[float, float] | None = None
    n: int | None = None
    missing: int = 0
    """Tasks that one side at least left without an answer."""
    skills: dict[str, BothFigures] = {}
    reason: str | None = None
    """Why there is no column."""


def generalisation(view: RunView) -> dict[str, ColumnFigures]:
    """The columns by name; none where the run was not asked for them."""
    found = view.generalised
    return {
        name: _sealed(view) if name == "G1" else _column(found[name])
        for name in COLUMNS
        if found and (name == "G1" or name in found)
    }


def _sealed(view: RunView) -> ColumnFigures:
    before, after = view.point("sealed"), view.point("sealed", newest=True)
    if before is None or after is None:
        return ColumnFigures(what=COLUMNS["G1"], reason="the sealed split has no two scores")
    return _figures("G1", before.score, after.score, view.sealed_gain, before.score.n)


def _column(record: Generalised) -> ColumnFigures:
    if record.reason:
        return ColumnFigures(what=COLUMNS[record.column], reason=line(record.reason))
    seed, champion = record.outcomes.get("seed", []), record.outcomes.get("champion", [])
    gain = None
    if record.seed is not None and record.champion is not None and len(seed) == len(champion):
        pair = paired_gain(seed, champion)
        gain = None if pair is None else Gain(*pair)
    figures = _figures(record.column, record.seed, record.champion, gain, sum(n for *_, n in record.cells))
    if gain is None:
        figures = msgspec.structs.replace(figures, reason="too many tasks had no answer")
    sides: dict[str, tuple[list[float | None], list[float | None]]] = {}
    at = 0
    for skill, _, n in record.cells:
        of = sides.setdefault(line(skill), ([], []))
        of[0].extend(seed[at : at + n])
        of[1].extend(champion[at : at + n])
        at += n
    skills = {
        path: BothFigures(initial=_mean(first), final=_mean(last), n=len(first))
        for path, (first, last) in sides.items()
    }
    return msgspec.structs.replace(figures, missing=record.missing, skills=skills)


def _figures(
    column: str, before: Interval | None, after: Interval | None, gain: Gain | None, n: int
) -> ColumnFigures:
    return ColumnFigures(
        what=COLUMNS[column],
        initial=None if before is None else short(before.mean),
        final=None if after is None else short(after.mean),
        initial_ci=None if before is None else ends(before),
        final_ci=None if after is None else ends(after),
        gain=None if gain is None else short(gain.gain),
        gain_ci=None if gain is None else (short(gain.interval[0]), short(gain.interval[1])),
        n=n,
    )


def _mean(outcomes: Sequence[float | None]) -> float | None:
    answered = [each for each in outcomes if each is not None]
    return short(sum(answered) / len(answered)) if answered else None
