"""What a server takes from strangers: sizes, numbers and seconds."""

from __future__ import annotations

import msgspec

MEBIBYTE = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what clients may ask for or hold. Sizes in bytes, times in seconds."""

    body: int = 4 * MEBIBYTE
    """A request's body."""
    queue: int = 256
    """Samples that may wait for a slot; more are answered with 429."""
    connections: int = 512
    """Open connections; more are answered with 503."""
    samples: int = 128
    """Samples that one request may ask for, over all its prompts."""
    header_seconds: float = 10.0
    """From the first byte of a request, or the connection, to the end of its headers."""
    body_seconds: float = 30.0
    """From the end of the headers to the end of the body."""
    request_seconds: float = 600.0
    """From the end of the body to the end of the answer."""
    grace_seconds: float = 10.0
    """What answers under way may still take once the server is told to end."""
