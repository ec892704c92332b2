"""Bounds of a sandboxed process. Far above what an honest program needs, so that no result hangs on a clock."""

from __future__ import annotations

from moevolve.records import Struct


class Limits(Struct, frozen=True):
    """Bounds of one process, all its attempts together; what one attempt may spend is its role's."""

    memory_mb: int = 512
    """Address space."""
    seconds: float = 60.0
    """Wall-clock time of the whole call, the policy's time not counted."""
    frame: int = 32 << 20
    """Bytes of one message from the process."""
