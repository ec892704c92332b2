"""One thread that drives a scheduler, and tickets through which asyncio hears of what was drawn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moevolve.errors import MoevolveError
from moevolve.policy.sampling import Event, Sampling
from moevolve.serve.failures import RequestError, ending


class Rounds(Protocol):
    """What the driver needs of a scheduler."""

    @property
    def slots(self) -> int: ...
    @property
    def busy(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def limit(self) -> int: ...
    def submit(self, ids: Sequence[int], sampling: Sampling, *, keys: Sequence[int]) -> int: ...
    def cancel(self, request: int) -> None: ...
    def round(self) -> list[Event]: ...


class Ticket:
    """One request of the scheduler's, as asyncio waits for it. Belongs to the loop's thread."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._left = set(range(samples))
        self._events: list[Event] = []
        self._failure: MoevolveError | None = None
        self._news = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return not self._left or self._failure is not None

    def hear(self, events: Sequence[Event]) -> None:
        """Takes a round's events."""
        self._events.extend(events)
        self._left.difference_update(event.sample for event in events if event.finish is not None)
        self._news.set()

    def fail(self, failure: MoevolveError) -> None:
        """Ends the ticket with an error, unless it has ended."""
        if not self.done:
            self._failure = failure
            self._news.set()

    async def rounds(self) -> AsyncIterator[list[Event]]:
        """What was drawn since the last time, in order, until every sample has finished.

        Raises:
            MoevolveError: what ended the request early.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            events, self._events = self._events, []
            if events:
                yield events
            if self._failure is not None:
                raise self._failure
            if not self._left and not self._events:
                return


class Driver:
    """Drives `scheduler.round()` in a thread of its own while there is work.

    Args:
        scheduler: what draws.
        loop: where tickets live.
    """

    def __init__(self, scheduler: Rounds, loop: asyncio.AbstractEventLoop) -> None:
        self.scheduler = scheduler
        self._loop = loop
        self._tickets: dict[int, Ticket] = {}
        self._numbers: dict[Ticket, int] = {}
        self._lock = threading.Lock()
        """Held while a request enters and while a round's events leave, so that none leaves before it is known."""
        self._work = threading.Event()
        self._ended = False
        self._failure: MoevolveError | None = None
        self._thread = threading.Thread(target=self._drive, name="moevolve serve: engine", daemon=True)
        self._thread.start()

    @property
    def outstanding(self) -> int:
        """Samples that are drawn or wait."""
        return sum(ticket.samples for ticket in list(self._numbers))

    @property
    def failure(self) -> MoevolveError | None:
        """What ended the thread, if it did not end well."""
        return self._failure

    def submit(self, ids: Sequence[int], sampling: Sampling, keys: Sequence[int]) -> Ticket:
        """Begins a request.

        Raises:
            MoevolveError: the scheduler refuses it, or has failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise ending()
        ticket = Ticket(len(keys))
        with self._lock:
            number = self.scheduler.submit(ids, sampling, keys=keys)
            self._tickets[number] = ticket
            self._numbers[ticket] = number
        self._work.set()
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Forgets a ticket; what it has not finished is cancelled."""
        number = self._numbers.pop(ticket, None)
        if number is None:
            return
        with self._lock:
            del self._tickets[number]
        if not ticket.done:
            self.scheduler.cancel(number)
            self._work.set()

    def fail_all(self, failure: MoevolveError) -> None:
        """Ends every ticket with an error."""
        for ticket in list(self._numbers):
            ticket.fail(failure)

    async def stop(self) -> None:
        """Ends the thread after its round."""
        self._ended = True
        self._work.set()
        await asyncio.to_thread(self._thread.join)

    def _drive(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            while not self._ended:
                try:
                    events = self.scheduler.round()
                except MoevolveError as error:
                    self._failed(error)
                    return
                except Exception as error:  # noqa: BLE001 - a thread's death must reach those who wait for it
                    self._failed(MoevolveError(f"the engine's thread ended: {type(error).__name__}: {error}"))
                    raise
                if events:
                    self._tell(events)
                elif not (self.scheduler.busy or self.scheduler.waiting):
                    break
            if self._ended:
                return

    def _tell(self, events: list[Event]) -> None:
        heard: dict[Ticket, list[Event]] = {}
        with self._lock:
            for event in events:
                ticket = self._tickets.get(event.request)
                if ticket is not None:
                    heard.setdefault(ticket, []).append(event)
        if heard:
            self._loop.call_soon_threadsafe(_hand_over, heard)

    def _failed(self, error: MoevolveError) -> None:
        self._failure = RequestError(500, f"the engine failed: {error}", code="engine_failed")
        self._loop.call_soon_threadsafe(self.fail_all, self._failure)


def _hand_over(heard: dict[Ticket, list[Event]]) -> None:
    for ticket, events in heard.items():
        ticket.hear(events)
