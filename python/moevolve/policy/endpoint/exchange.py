"""One exchange with the server, from the request to its end, as it is kept in the run's store."""

from __future__ import annotations

import hashlib

import msgspec

from moevolve.config import EndpointSection
from moevolve.program.requests import GenerateRequest

FORMAT = 1
"""Version of what a request's digest covers."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended and what it took. No clock is in here: a replay works with the very same values."""

    texts: list[str]
    """One text a sample; empty where the request failed."""
    failure: str | None = None
    """Type of the last call's failure, where the request failed for good."""
    detail: str = ""
    calls: int = 1
    faults: dict[str, int] = {}
    """Failed calls by type, those that a further try made good included."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0
    """Answered calls without usage figures."""

    def content(self) -> bytes:
        """The exchange as bytes; equal ones have equal bytes."""
        return _encode(self)


def digest(request: GenerateRequest, model: str, section: EndpointSection) -> str:
    """Names a request: all that its answer depends on, its key included. 64 hexadecimal digits."""
    parts = (
        FORMAT,
        model,
        section.api,
        section.system,
        request.prompt,
        request.n,
        request.temperature,
        request.top_p,
        request.max_tokens,
        request.key,
    )
    return hashlib.blake2b(_encode(parts), digest_size=32).hexdigest()
