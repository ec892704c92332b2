"""Bounds of a sandboxed process. Far above what an honest program needs, so that no result hangs on a clock."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.config.roles import RoleSection
from moevolve.records import Struct

SPARE = 256 << 10
"""Bytes that an attempt may send beside its prompts and its answer."""
LETTER = 6
"""Bytes of a character of a prompt, at most: JSON escapes one in so many."""
MOST_ROOM = 1 << 30
"""Bytes that all attempts of a process may write into their workspaces."""


class Limits(Struct, frozen=True):
    """Bounds of one process, all its attempts together; what one attempt may spend is its role's."""

    memory_mb: int = 512
    """Address space."""
    seconds: float = 60.0
    """Wall-clock time of the whole call, the policy's time not counted."""
    frame: int = 32 << 20
    """Bytes of one message from the process."""

    def said(self, role: RoleSection, rooms: Sequence[int]) -> int:
        """Bytes of all messages of a process together: what all attempts may send, and one message more.

        Args:
            role: what an attempt may spend.
            rooms: what each attempt may send beside its prompts.
        """
        each = SPARE + LETTER * (role.requests * role.longest_prompt + role.answer_chars)
        return self.frame + len(rooms) * each + min(MOST_ROOM, sum(rooms))
