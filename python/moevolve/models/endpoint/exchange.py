"""One exchange with the server, from the request to its end, as it is kept in the run's store."""

from __future__ import annotations

import msgspec

from moevolve.protocol import packing
from moevolve.protocol.completion import Completion


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended and what it took. No clock is in here: a replay works with the very same values."""

    completions: list[Completion]
    """One a sample; empty where the request failed."""
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
    """Answered calls without usage figures, and calls that the process did not live to see the end of."""
    refused: dict[str, str] = {}
    """Fields that the server was found to refuse here, with its words: asked without them from then on."""

    @property
    def texts(self) -> list[str]:
        """The completions' texts."""
        return [completion.text for completion in self.completions]

    def content(self) -> bytes:
        """The exchange as bytes; equal ones have equal bytes, whatever version wrote them."""
        plain = {name: getattr(self, name) for name in self.__struct_fields__ if name != "refused"}
        return packing.encode(plain) + (packing.encode(self.refused) if self.refused else b"")
