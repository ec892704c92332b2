"""What a run's guards did, in counts."""

from __future__ import annotations

from typing import NamedTuple


class GuardCounts(NamedTuple):
    """What a guard looked at and refused, and how often it raised an alarm."""

    checked: int = 0
    vetoed: int = 0
    alarms: int = 0
