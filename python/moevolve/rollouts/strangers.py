"""A policy that answers each attempt with what it would have told another one."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import GenerateRequest, Reply, Unanswered

ALONE = Unanswered(failure="rejected", detail="no other attempt has been told anything yet")


class StrangersWords:
    """Replies that go to the next attempt of their round; to an attempt that is alone, what another one was told before.

    Args:
        policy: whose words they are.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._heard: dict[int, Reply] = {}

    @property
    def weights(self) -> str:
        return self._policy.weights

    @property
    def generated(self) -> int:
        return self._policy.generated

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        """Answers a round; see `Policy`. A request that no other attempt has a reply for is refused."""
        replies = self._policy.answer(requests)
        mine: dict[int, list[Reply]] = {}
        for request, reply in zip(requests, replies, strict=True):
            mine.setdefault(request.attempt, []).append(reply)
        order = sorted(mine)
        given: dict[int, list[Reply]] = {}
        for place, attempt in enumerate(order):
            other = order[(place + 1) % len(order)]
            heard = [reply for known, reply in sorted(self._heard.items()) if known != attempt]
            given[attempt] = list(mine[other]) if other != attempt else heard[:1]
        self._heard |= {attempt: said[0] for attempt, said in mine.items()}
        taken = dict.fromkeys(order, 0)
        swapped = []
        for request in requests:
            said = given[request.attempt]
            index = taken[request.attempt]
            taken[request.attempt] += 1
            swapped.append(_fitted(said[index % len(said)], request.n) if said else ALONE)
        return swapped


def _fitted(reply: Reply, n: int) -> Reply:
    """As many completions as were asked for."""
    if isinstance(reply, Unanswered) or not reply:
        return reply
    return [reply[index % len(reply)] for index in range(n)]
