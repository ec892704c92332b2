"""The learning rate of a stage: up for a few steps, then down, so that the stage ends in small steps and can be gated."""

from __future__ import annotations

import math
from typing import Literal

WARM_UP = 8
"""Steps in which the rate rises in equal parts."""
FLOOR = 0.1
"""What is left of it at the end."""

Schedule = Literal["linear", "cosine"]


def rate_at(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """The rate of a step, counted from 1, of `steps`: a rise to `peak`, then down to a tenth of it, straight or as half a
    cosine (Loshchilov and Hutter 2017)."""
    if step <= WARM_UP:
        return peak * step / WARM_UP
    gone = (step - WARM_UP) / max(1, steps - WARM_UP)
    left = 1 - gone if schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
    return peak * (FLOOR + (1 - FLOOR) * left)
