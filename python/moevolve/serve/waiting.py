"""Work for a client that may leave before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from moevolve.serve.failures import RequestError

T = TypeVar("T")

_left_alone: set[asyncio.Task[Any]] = set()
"""Work that nobody waits for any more, until it notices."""


class Left(Exception):
    """Nobody waits for the answer any more."""


class Waiting:
    """Whether somebody still waits for an answer."""

    def __init__(self) -> None:
        self.over = False

    def check(self) -> None:
        """Ends work that nobody waits for.

        Raises:
            Left: the client is gone, or its time is over.
        """
        if self.over:
            raise Left


async def left(receive: Receive) -> None:
    """Returns once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def out_of_time(seconds: float) -> RequestError:
    """The answer's time is over."""
    return RequestError(504, f"no end of the answer within {seconds:g} seconds", code="timeout")


async def awaited(receive: Receive, seconds: float, work: Callable[[Waiting], Coroutine[Any, Any, T]]) -> T:
    """What work comes to while the client is there.

    A thread cannot be ended: work that is abandoned goes on to where it looks at its `Waiting`, and keeps what it holds
    until then.

    Args:
        receive: the client's messages; its body has been read.
        seconds: for which it waits.
        work: looks at its `Waiting` between its steps.

    Raises:
        Left: the client is gone.
        RequestError: 504, or what the work raises.
    """
    waiting = Waiting()
    working = asyncio.create_task(work(waiting))
    leaving = asyncio.create_task(left(receive))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise out_of_time(seconds) from error
    finally:
        leaving.cancel()
        waiting.over = True
        if not working.done():
            _left_alone.add(working)
            working.add_done_callback(_ended)
    if not working.done():
        raise Left
    return working.result()


def _ended(work: asyncio.Task[Any]) -> None:
    _left_alone.discard(work)
    if not work.cancelled():
        work.exception()
