"""What one piece of work asks of a policy, counted for it alone."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import GenerateRequest, Reply


class Usage:
    """Tokens and requests so far."""

    __slots__ = ("requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0

    def answer(self, policy: Policy, requests: Sequence[GenerateRequest]) -> Sequence[Reply]:
        """The policy's replies, with what they took added."""
        before = policy.generated
        replies = policy.answer(requests)
        self.tokens += policy.generated - before
        self.requests += len(requests)
        return replies
