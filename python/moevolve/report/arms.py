"""Arms over seeds: the mean of what runs of one kind came to, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

import msgspec

from moevolve.journal.averages import SCALE
from moevolve.journal.averages import mean as average
from moevolve.report.score import exact, short
from moevolve.report.summary import Summary

T975 = (
    *(
        12.706,
        4.303,
        3.182,
        2.776,
        2.571,
        2.447,
        2.365,
        2.306,
        2.262,
        2.228,
        2.201,
        2.179,
        2.160,
        2.145,
        2.131,
    ),
    *(
        2.120,
        2.110,
        2.101,
        2.093,
        2.086,
        2.080,
        2.074,
        2.069,
        2.064,
        2.060,
        2.056,
        2.052,
        2.048,
        2.045,
        2.042,
    ),
)
"""Student's t at .975 for 1 to 30 degrees of freedom."""
NORMAL = 1.96
LARGE = 1e300
"""Figures beyond which deviations may have no number."""


class MeanFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mean over runs with its 95 % interval (Student's t); no interval of a single one."""

    mean: float
    ci: tuple[float, float] | None = None


class ArmFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The finished runs of one name and arm."""

    name: str
    arm: str
    seeds: list[int]
    initial: MeanFigures
    final: MeanFigures
    gain: MeanFigures
    generalisation: dict[str, MeanFigures] = {}
    """Column -> the gain over the runs that measured it."""
    seconds: float
    """Mean of a run's."""
    tokens: float
    """Mean of a run's, generated and trained."""
    promotions: float
    """Mean of a run's, of both levels."""
    rated: bool = False
    """Whether scores are an evaluator's numbers."""


def arms(runs: Iterable[Summary]) -> list[ArmFigures]:
    """The arms of several runs, in the order of their first ones; runs without two sealed scores, or an evaluator's two
    numbers, are left out."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for run in runs:
        if run.score.gain is not None:
            groups.setdefault((_name(run), run.arm), []).append(run)
    return [
        ArmFigures(
            name=name,
            arm=arm,
            seeds=sorted(run.seed for run in group),
            initial=mean_of([run.score.initial or 0.0 for run in group], rated=_rated(group[0])),
            final=mean_of([run.score.final or 0.0 for run in group], rated=_rated(group[0])),
            gain=mean_of([run.score.gain or 0.0 for run in group], rated=_rated(group[0])),
            generalisation=_generalised(group),
            seconds=round(fmean(run.seconds for run in group), 1),
            tokens=round(fmean(run.tokens.generated + run.tokens.trained for run in group)),
            promotions=round(
                fmean(run.promotions.weights.accepted + run.promotions.program.accepted for run in group), 2
            ),
            rated=_rated(group[0]),
        )
        for (name, arm), group in groups.items()
    ]


def _generalised(group: Sequence[Summary]) -> dict[str, MeanFigures]:
    gains: dict[str, list[float]] = {}
    for run in group:
        for name, column in run.generalisation.items():
            if column.gain is not None:
                gains.setdefault(name, []).append(column.gain)
    return {name: mean_of(of) for name, of in sorted(gains.items())}


def mean_of(values: Sequence[float], *, rated: bool = False) -> MeanFigures:
    """The mean of some runs' figures and its interval, whose ends stay finite.

    Args:
        values: shares, which have four decimals; or an evaluator's numbers, whose unit nobody knows.
        rated: whether they are an evaluator's.
    """
    mean, rounded = average(values), exact if rated else short
    if len(values) < 2:
        return MeanFigures(mean=rounded(mean))
    freedom = len(values) - 1
    student = T975[freedom - 1] if freedom <= len(T975) else NORMAL
    scale = SCALE if max(map(abs, values)) > LARGE else 1.0
    half = student * stdev([each * scale for each in values]) / math.sqrt(len(values))
    low, high = ((mean * scale + side * half) / scale for side in (-1, 1))
    return MeanFigures(mean=rounded(mean), ci=(rounded(low), rounded(high)))


def _rated(run: Summary) -> bool:
    """Whether its scores are an evaluator's numbers."""
    return run.score.n is None


def _name(run: Summary) -> str:
    """What its configuration is called: a run's name ends with its seed and a digest."""
    return run.run.rsplit("-", 2)[0]
