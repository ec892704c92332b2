"""What the loop asks of a policy, whoever answers: the engine on this machine, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moevolve.protocol.requests import GenerateRequest, Reply


class Policy(Protocol):
    """Something that answers prompts."""

    @property
    def weights(self) -> str:
        """Content hash of the weights, or `endpoint:<model>` where they are a server's."""
        ...

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        ...

    def answer(self, requests: Sequence[GenerateRequest]) -> Sequence[Reply]:
        """Answers a round: `n` completions per request, in the order of the requests.

        A request that cannot be answered gets an `Unanswered` in their place, and the others theirs all the same.
        """
        ...
