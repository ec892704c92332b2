"""The score that chose a candidate, corrected for having been chosen (the winner's curse).

The best of several noisy gains looks better than it is. How much it does depends on how far the candidates truly lie
apart: where one is clearly best it is chosen for what it is, where all are alike it is chosen for its luck. So the true
gains are estimated first, by the positive-part James-Stein estimator (Efron and Morris, Data analysis using Stein's
estimator, JASA 70, 1975), and the choice is then made again many times in a world in which those estimates are true: what
the winner is overrated by there is taken off here (a parametric bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from moevolve.errors import UsageError

WORLDS = 400
"""Choices made again; their mean is known to a twentieth of a standard error."""


def corrected_best(gains: Sequence[float], error: float, rng: Random) -> float:
    """Estimate of the true gain of the candidate whose gain is the highest.

    Args:
        gains: each candidate's screening score less the baseline's, all on the same tasks.
        error: standard error of one of them; see `standard_error`.
        rng: the generator of the choices made again.

    Raises:
        UsageError: no gains.
    """
    if not gains:
        raise UsageError("no gains, so no best one to correct")
    count = len(gains)
    best = max(gains)
    centre = math.fsum(gains) / count
    spread = math.fsum((gain - centre) ** 2 for gain in gains)
    kept = max(0.0, 1 - max(1, count - 3) * error**2 / spread) if spread else 0.0
    true = [centre + kept * (gain - centre) for gain in gains]
    overrated = 0.0
    for _ in range(WORLDS):
        seen, index = max((rng.gauss(gain, error), index) for index, gain in enumerate(true))
        overrated += seen - true[index]
    return best - overrated / WORLDS


def standard_error(differences: Sequence[float]) -> float:
    """Standard error of the mean of paired differences, at least that of one lost task: a tie everywhere is no certainty."""
    n = len(differences)
    if n < 2:
        return 1.0
    centre = math.fsum(differences) / n
    variance = math.fsum((d - centre) ** 2 for d in differences) / (n - 1)
    return max(math.sqrt(variance / n), 1 / n)
