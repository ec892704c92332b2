"""Bounds of a sandboxed process. Far above what an honest program needs, so that no result hangs on a clock."""

from __future__ import annotations

from moevolve.config.roles import RoleSection
from moevolve.records import Struct

SPARE = 64 << 10
"""Bytes that an attempt may say beside its prompts and its answer."""


class Limits(Struct, frozen=True):
    """Bounds of one process, all its attempts together; what one attempt may spend is its role's."""

    memory_mb: int = 512
    """Address space."""
    seconds: float = 60.0
    """Wall-clock time of the whole call, the policy's time not counted."""
    frame: int = 32 << 20
    """Bytes of one message from the process."""

    def said(self, attempts: int, role: RoleSection) -> int:
        """Bytes of all messages of a process together: all prompts of all attempts at their longest come to half as much."""
        return self.frame + attempts * (SPARE + 2 * (role.requests * role.longest_prompt + role.answer_chars))
