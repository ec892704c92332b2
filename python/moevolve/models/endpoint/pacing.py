"""When to call: no faster than was agreed, and not before the server wants to hear from us again.

Time decides only how long a call waits, never what comes of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from moevolve.randomness import rng

FIRST, MOST = 0.5, 30.0
"""Seconds before the first further try, doubled from try to try up to the most."""
PATIENCE = 900.0
"""A server that wants to be left alone for longer is not waited for."""


class Pace:
    """The rhythm of all calls to one server.

    Args:
        per_minute: most calls a minute; None leaves it to the server.
        clock: seconds that only go forward.
        wait: waits for so many seconds.
    """

    def __init__(
        self,
        per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._wait = wait
        self._next = 0.0
        self._closed = 0.0
        self._silent: float | None = None

    def now(self) -> float:
        """Seconds on this rhythm's clock."""
        return self._clock()

    def answered(self) -> None:
        """A call was answered, or calls begin after a pause: nothing counts as silence yet."""
        self._silent = None

    def silence(self, began: float) -> float:
        """Seconds since the first began of the calls that failed with none answered since; `began` of them just failed."""
        self._silent = began if self._silent is None else min(self._silent, began)
        return self._clock() - self._silent

    async def turn(self) -> None:
        """Waits until a call may be made."""
        slot = max(self._clock(), self._next)
        self._next = slot + self._gap
        while (left := max(slot, self._closed) - self._clock()) > 0:
            await self._wait(left)

    def hold(self, seconds: float) -> None:
        """Lets no call pass for so many seconds; a wish beyond `PATIENCE` holds nobody up."""
        if seconds <= PATIENCE:
            self._closed = max(self._closed, self._clock() + seconds)

    async def back_off(self, key: int, tries: int) -> None:
        """Waits after the `tries`-th failed try: twice as long each time, spread by the request's key."""
        spread = rng(key, "back off", tries).uniform(0.5, 1.5)
        await self._wait(min(MOST, FIRST * 2 ** min(tries - 1, 16)) * spread)
