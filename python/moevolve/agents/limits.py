"""What a program may spend. Far above what an honest one needs, so that no result hangs on a clock."""

from __future__ import annotations

from moevolve.records import Struct


class Limits(Struct, frozen=True):
    """Bounds of one sandboxed call; per attempt unless it says otherwise."""

    memory_mb: int = 512
    """Address space of the process."""
    seconds: float = 60.0
    """Wall-clock time of the process for the whole call, the policy's time not counted."""
    step_seconds: float = 5.0
    """Processor time of one attempt between two requests."""
    requests: int = 96
    samples: int = 32
    """Completions of one request."""
    prompt: int = 2048
    """Characters of a prompt or a recall query."""
    tokens: int = 16_384
    """Characters generated for one attempt."""
    max_tokens: int = 32
    """Default and largest length of one completion."""
    least_tokens: int = 8
    """Shorter completions would let a program cut the policy's words into letters and spell its own
    answer."""
    answer: int = 4096
    """Characters of an answer."""
    recalled: int = 32
    """Lessons of one recall."""
    improve_requests: int = 4096
    improve_tokens: int = 400_000
    frame: int = 32 << 20
    """Bytes of one message from the process."""
