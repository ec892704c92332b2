"""A cohort of attempts in a thread of its own, which stops wherever it needs the policy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from moevolve.protocol.requests import Answer, GenerateRequest, Reply

Result = TypeVar("Result")


class Dropped(Exception):
    """Raised inside a lane whose result nobody waits for any more."""


class Lane(Generic[Result]):
    """Work that asks a policy, seen from the thread that drives the policy.

    Args:
        work: gets a stand-in for the policy, which blocks until `reply`.
    """

    def __init__(self, work: Callable[[Answer], Result]) -> None:
        self._work = work
        self._events: SimpleQueue[list[GenerateRequest] | Future[Result]] = SimpleQueue()
        self._replies: SimpleQueue[Sequence[Reply] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="moevolve: rollouts", daemon=True).start()

    def next(self) -> list[GenerateRequest] | Future[Result]:
        """The work's next requests, or its end; waits for them."""
        return self._events.get()

    def reply(self, replies: Sequence[Reply]) -> None:
        """Answers the newest requests."""
        self._replies.put(replies)

    def drop(self) -> None:
        """Ends the work at its next request."""
        self._replies.put(None)

    def _run(self) -> None:
        end: Future[Result] = Future()
        try:
            end.set_result(self._work(self._ask))
        except BaseException as error:  # noqa: BLE001  it is raised again where the result is wanted
            end.set_exception(error)
        self._events.put(end)

    def _ask(self, requests: list[GenerateRequest]) -> Sequence[Reply]:
        self._events.put(requests)
        replies = self._replies.get()
        if replies is None:
            raise Dropped
        return replies
