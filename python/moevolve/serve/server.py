"""Runs the application on a socket until a signal, then lets answers under way come to their end."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from moevolve.errors import UsageError
from moevolve.serve.protocol import guarded
from moevolve.serve.service import Service

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LEEWAY = 5
"""Seconds between the end of the grace and the moment when what is left is cut off."""


def bound(host: str, port: int) -> socket.socket:
    """A listening address.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return listener


class Server(uvicorn.Server):
    """One application on one socket.

    Args:
        app: the application.
        service: what it serves.
        told: called once when a signal asks for the end.
    """

    def __init__(self, app: ASGIApp, service: Service, told: Callable[[], None] = lambda: None) -> None:
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(limits),
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=int(limits.header_seconds) or 1,
                timeout_graceful_shutdown=int(limits.grace_seconds) + LEEWAY,
            )
        )
        self._service = service
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self.signals: list[int] = []
        """Signals that have arrived."""

    async def until_signal(self, listener: socket.socket, ready: Callable[[], Awaitable[None]]) -> None:
        """Serves until a signal, or `should_exit`; calls `ready` once clients can connect."""
        self._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        while not self.started and not serving.done():
            await asyncio.sleep(0.01)
        if self.started:
            await ready()
        await serving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no more requests, waits for the answers under way, and ends those that outlast the grace."""
        self._service.ending = True
        self._told()
        ending = asyncio.get_running_loop().call_later(self._service.limits.grace_seconds, self._service.end)
        await super().shutdown(sockets)
        ending.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals while the server runs; the caller decides what they mean for the exit code."""
        if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, the second one ends what is still under way."""
        self.signals.append(sig)
        self.should_exit = True
        if len(self.signals) > 1 and self._loop is not None:
            self._loop.call_soon_threadsafe(self._service.end)
