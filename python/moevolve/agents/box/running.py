"""One box while it runs: its streams read within bounds, its time kept, its end told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from time import monotonic
from typing import Any

import msgspec

from moevolve.agents.box.http import Door, Handler
from moevolve.agents.box.nursery import Made, Nursery
from moevolve.agents.box.workspace import Workspace

STEP = 0.2
"""Seconds between two looks at the time of a box that asks nothing."""
MOST_STATUS = 4096


class Ended(msgspec.Struct, frozen=True):
    """How a box ended: one of `code`, `signal`, `limit`, `timeout` and `stopped` (by the host)."""

    output: bytes
    errors: bytes
    answer: bytes
    code: int | None = None
    signal: int | None = None
    limit: str | None = None
    timeout: bool = False
    stopped: bool = False
    full: bool = False
    """Whether its workspace was full in the end."""


class Clock:
    """A box's time: what it spends waiting for the policy does not count."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._waited = 0.0
        self._waiting = 0
        self._since = 0.0

    def __enter__(self) -> Clock:
        if not self._waiting:
            self._since = monotonic()
        self._waiting += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._waited += monotonic() - self._since

    @property
    def spent(self) -> float:
        """Seconds so far."""
        now = self._since if self._waiting else monotonic()
        return now - self._began - self._waited


class Running:
    """A job in a box, from its beginning to its end. Its methods belong to `nursery.loop`.

    Args:
        nursery: where the box is made.
        job: what runs in it; see `inside.attempt`.
        seconds: its time.
        most: bytes of what it prints.
        show: a workspace that it sees, read-only.
    """

    def __init__(
        self, nursery: Nursery, job: dict[str, Any], seconds: float, most: int, show: Workspace | None = None
    ) -> None:
        self.clock = Clock()
        self.workspace: Workspace | None = None
        self._nursery = nursery
        self._job = job
        self._seconds = seconds
        self._most = most
        self._show = show
        self._process = -1
        self._stopped = False
        self._limit: str | None = None
        self._read = {"output": b"", "errors": b"", "answer": b"", "status": b""}

    def stop(self) -> None:
        """Ends the box, and all that runs in it."""
        self._stopped = True
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    async def run(self, handle: Handler | None = None) -> Ended:
        """Runs it; `handle` answers what it asks.

        Raises:
            SandboxError: the box cannot be made.
        """
        door: Door | None = None
        pipes = {name: os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for name in self._read}
        reading: list[asyncio.Task[None]] = []
        try:
            try:
                for _, end in pipes.values():
                    os.set_blocking(end, True)
                given = [end for _, end in pipes.values()]
                if self._show is not None and self._show.mount is not None:
                    given.append(self._show.mount)
                made = await self._made({**self._job, "listen": handle is not None}, given)
            finally:
                for _, end in pipes.values():
                    os.close(end)
            self.clock = Clock()
            if self._stopped:
                self.stop()
            if handle is not None and made.listener is not None:
                door = Door(made.listener, handle)
                await door.open()
            reading = [asyncio.ensure_future(self._drain(name, end)) for name, (end, _) in pipes.items()]
            timeout = await self._watched(reading)
        except BaseException:
            if self.workspace is not None:
                self.workspace.close()
            raise
        finally:
            if self._process >= 0:
                stopped = self._stopped
                self.stop()
                self._stopped = stopped
            if reading:
                await asyncio.wait(reading)
            if door is not None:
                await door.close()
            for end, _ in pipes.values():
                os.close(end)
            if self._process >= 0:
                await self._gone()
                os.close(self._process)
                self._process = -1
        return self._ended(timeout)

    async def _made(self, job: dict[str, Any], given: list[int]) -> Made:
        """The box; one that nobody waits for any more is known all the same, so that it ends."""
        making = asyncio.ensure_future(self._nursery.make(job, given))
        try:
            await asyncio.shield(making)
        finally:
            if not making.done():
                await asyncio.wait([making])
            if making.exception() is None:
                self._process, self.workspace = making.result().process, Workspace(making.result().workspace)
        return making.result()

    async def _gone(self) -> None:
        """Waits until nothing is left: process 1 ends after all others."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process, ended.set)
        await ended.wait()
        loop.remove_reader(self._process)

    async def _watched(self, reading: list[asyncio.Task[None]]) -> bool:
        """Waits for the box's end; whether its time was over."""
        while True:
            done, _ = await asyncio.wait(reading, timeout=STEP)
            if len(done) == len(reading) or self._limit is not None or self._stopped:
                return False
            if self.clock.spent > self._seconds:
                return True

    async def _drain(self, name: str, end: int) -> None:
        """Reads a stream to its end; one that is too long ends the box."""
        most = MOST_STATUS if name == "status" else self._most
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(end, ready.set)
        try:
            while True:
                try:
                    part = os.read(end, 1 << 16)
                except BlockingIOError:
                    ready.clear()
                    await ready.wait()
                    continue
                if not part:
                    return
                self._read[name] += part[: most - len(self._read[name])]
                if len(self._read[name]) >= most and self._limit is None:
                    self._limit = "output_kb"
                    stopped = self._stopped
                    self.stop()
                    self._stopped = stopped
        finally:
            loop.remove_reader(end)

    def _ended(self, timeout: bool) -> Ended:
        if self._stopped or timeout or self._limit:
            return self._told(stopped=self._stopped, timeout=timeout, limit=self._limit)
        try:
            told = msgspec.json.decode(self._read["status"], type=dict[str, Any])
        except msgspec.DecodeError:
            return self._told(signal=int(signal.SIGKILL))  # Its process 1 was taken away.
        return self._told(code=told["code"], signal=told["signal"], limit=told["limit"], full=told["full"])

    def _told(self, **how: Any) -> Ended:
        read = self._read
        return Ended(output=read["output"], errors=read["errors"], answer=read["answer"], **how)


def job(mode: str, **fields: Any) -> dict[str, Any]:
    """A job with the defaults of what it leaves out."""
    return {
        "mode": mode, "argv": [], "entry": "", "stdin": b"", "files": {}, "workspace": {}, "show": None,
        "environment": {}, "seed": 0, **fields,
    }  # fmt: skip
