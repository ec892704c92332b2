"""One thread that drives a scheduler, and handles through which asyncio hears of what was drawn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moevolve.errors import MoevolveError
from moevolve.protocol.sampling import Event, TokenRequest
from moevolve.serve.failures import RequestError, ending


class RequestScheduler(Protocol):
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
    def submit(self, request: TokenRequest) -> int: ...
    def cancel(self, request: int) -> None: ...
    def step(self) -> list[Event]: ...


GAP = 0.001
"""Seconds between two looks of a request at what was drawn, for each sample that is under way."""
LONGEST_GAP = 0.1


class RequestHandle:
    """One request of the scheduler's, as asyncio waits for it. Belongs to the loop's thread.

    The first tokens and the last are told at once. In between, the more samples are under way, the longer a request
    waits for more to tell: waking it for every token of a fast model would cost more than drawing the token.
    """

    def __init__(self, samples: int, loop: asyncio.AbstractEventLoop) -> None:
        self.samples = samples
        self._loop = loop
        self._next = 0.0
        """When it may be told again, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._left = set(range(samples))
        self._events: list[Event] = []
        self._failure: MoevolveError | None = None
        self._news = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return not self._left or self._failure is not None

    def hear(self, events: Sequence[Event], gap: float) -> None:
        """Takes a step's events; tells them `gap` seconds after the ones before, or at once if they are the last."""
        self._events.extend(events)
        for event in events:
            if event.finish is not None:
                self._left.discard(event.sample)
        now = self._loop.time()
        if not self._left or now >= self._next:
            self._next = now + gap
            self._ring()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._next, self._ring)
            self._next += gap

    def _ring(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._news.set()

    def fail(self, failure: MoevolveError) -> None:
        """Ends the handle with an error, unless it has ended."""
        if not self.done:
            self._failure = failure
            self._ring()

    async def events(self) -> AsyncIterator[list[Event]]:
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
    """Drives `scheduler.step()` in a thread of its own while there is work.

    Args:
        scheduler: what draws.
        loop: where handles live.
    """

    def __init__(self, scheduler: RequestScheduler, loop: asyncio.AbstractEventLoop) -> None:
        self.scheduler = scheduler
        self.slots = scheduler.slots
        """Samples that are drawn at once; the scheduler itself may be asked only between steps."""
        self.outstanding = 0
        """Samples that are drawn or wait."""
        self._loop = loop
        self._handles: dict[int, RequestHandle] = {}
        self._numbers: dict[RequestHandle, int] = {}
        self._lock = threading.Lock()
        """Held while a request enters and while a step's events leave, so that none leaves before it is known."""
        self._work = threading.Event()
        self._ended = False
        self._failure: MoevolveError | None = None
        self._thread = threading.Thread(target=self._drive, name="moevolve serve: engine", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> MoevolveError | None:
        """What ended the thread, if it did not end well."""
        return self._failure

    def submit(self, request: TokenRequest) -> RequestHandle:
        """Begins a request.

        Raises:
            MoevolveError: the scheduler refuses it, or has failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise ending()
        handle = RequestHandle(len(request.keys), self._loop)
        with self._lock:
            number = self.scheduler.submit(request)
            self._handles[number] = handle
            self._numbers[handle] = number
        self.outstanding += handle.samples
        self._work.set()
        return handle

    def release(self, handle: RequestHandle) -> None:
        """Forgets a handle; what it has not finished is cancelled."""
        number = self._numbers.pop(handle, None)
        if number is None:
            return
        self.outstanding -= handle.samples
        with self._lock:
            del self._handles[number]
        if not handle.done:
            self.scheduler.cancel(number)
            self._work.set()

    def fail_all(self, failure: MoevolveError) -> None:
        """Ends every handle with an error."""
        for handle in list(self._numbers):
            handle.fail(failure)

    async def stop(self) -> None:
        """Ends the thread after its step."""
        self._ended = True
        self._work.set()
        await asyncio.to_thread(self._thread.join)

    def _drive(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            while not self._ended:
                try:
                    events = self.scheduler.step()
                except MoevolveError as error:
                    self._failed(error)
                    return
                # A panic of the native engine is no Exception. A thread's death must reach those who wait for it.
                except BaseException as error:
                    self._failed(MoevolveError(f"the engine's thread ended: {type(error).__name__}: {error}"))
                    raise
                if events:
                    self._tell(events)
                elif not (self.scheduler.busy or self.scheduler.waiting):
                    break
            if self._ended:
                return

    def _tell(self, events: list[Event]) -> None:
        heard: dict[RequestHandle, list[Event]] = {}
        with self._lock:
            for event in events:
                handle = self._handles.get(event.request)
                if handle is not None:
                    heard.setdefault(handle, []).append(event)
        if heard:
            self._loop.call_soon_threadsafe(self._hand_over, heard)

    def _hand_over(self, heard: dict[RequestHandle, list[Event]]) -> None:
        gap = min(LONGEST_GAP, GAP * self.outstanding)
        for handle, events in heard.items():
            handle.hear(events, gap)

    def _failed(self, error: MoevolveError) -> None:
        self._failure = RequestError(500, f"the engine failed: {error}", code="engine_failed")
        self._loop.call_soon_threadsafe(self.fail_all, self._failure)
