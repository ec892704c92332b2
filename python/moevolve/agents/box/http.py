"""HTTP/1.1 on one attempt's listening socket: as much of it as OpenAI's clients speak, within bounds.

Whoever connects is inside the box, so a connection that misbehaves costs its own attempt and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import msgspec

LONGEST_HEAD = 64 << 10
LONGEST_BODY = 16 << 20
MOST_HELD = 32 << 20
"""Bytes of an attempt's requests that wait for their answers, all together."""
MOST_CONNECTIONS = 64
"""Of one attempt at one time; further ones wait until one ends, or is kept by its client with nothing to ask."""
PAUSE = 0.1
"""Seconds before another try where the machine has no descriptor left."""

REASONS = {200: "OK", 400: "Bad Request", 402: "Payment Required", 404: "Not Found", 405: "Method Not Allowed",
           413: "Content Too Large", 422: "Unprocessable Content", 502: "Bad Gateway"}  # fmt: skip


class Response(msgspec.Struct, frozen=True):
    """An answer to a request."""

    status: int
    body: bytes
    kind: str = "application/json"


Handler = Callable[[str, str, bytes], Awaitable[Response]]
"""(method, path, body) -> response."""


class Malformed(Exception):
    """A request that is no HTTP/1.1, or too large.

    Args:
        status: that the client gets.
        reason: why.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """Answers what comes to a listening socket.

    Args:
        listener: of the box; this closes it.
        handle: answers a request.
    """

    def __init__(self, listener: socket.socket, handle: Handler) -> None:
        self._listener = listener
        self._handle = handle
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], None] = {}
        """Those that have had an answer and wait for a further request, the one that waits for longest first."""
        self._room = asyncio.Event()
        """Set when a connection ends, or is idle."""
        self._held = 0

    async def open(self) -> None:
        """Begins to accept."""
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Ends all connections."""
        tasks = [*self._tasks, *filter(None, [self._accepting])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        """Takes a connection at a time; those that there is no room for stay in the listening socket's queue."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            try:
                await self._wait_for_room()
                reader, writer = await asyncio.open_connection(sock=connection, limit=LONGEST_HEAD)
            except OSError:
                connection.close()
                continue
            except asyncio.CancelledError:
                connection.close()
                raise
            task = asyncio.create_task(self._accepted(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._gone)

    async def _wait_for_room(self) -> None:
        while len(self._tasks) >= MOST_CONNECTIONS:
            for task in list(self._idle)[:1]:
                del self._idle[task]
                task.cancel()
            self._room.clear()
            await self._room.wait()

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        try:
            first = b""
            while await self._one(reader, writer, first):
                self._idle[task] = None
                self._room.set()
                first = await reader.read(1)
                self._idle.pop(task, None)
        except (
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            asyncio.CancelledError,
        ):
            pass
        finally:
            self._idle.pop(task, None)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> bool:
        """Answers one request, of which `first` has been read; whether another may follow."""
        try:
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return False
        held = _Held(self)
        try:
            method, path, fields = _head(head)
            if fields.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await _body(reader, fields, held)
            last = fields.get("connection", "").lower() == "close"
            response = await self._handle(method, path, body)
        except Malformed as error:
            said = msgspec.json.encode({"error": {"message": str(error), "type": "invalid_request_error"}})
            _send(writer, Response(error.status, said), last=True)
            await writer.drain()
            return False
        finally:
            held.let_go()
        _send(writer, response, last=last)
        await writer.drain()
        return not last

    def hold(self, size: int) -> None:
        """Makes room for bytes of a request.

        Raises:
            Malformed: there is none; what waits is to be answered first.
        """
        if self._held + size > MOST_HELD:
            raise Malformed(413, f"requests under way have at most {MOST_HELD >> 20} MiB together")
        self._held += size


class _Held:
    """The bytes of one request, from before they are read until it is answered."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._size = 0

    def more(self, size: int) -> None:
        """Counts further bytes; raises as `Door.hold`."""
        self._door.hold(size)
        self._size += size

    def let_go(self) -> None:
        """Takes them off the count."""
        self._door.hold(-self._size)


def _head(lines: list[str]) -> tuple[str, str, dict[str, str]]:
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Malformed(400, "this is no HTTP/1.1")
    fields: dict[str, str] = {}
    for line in filter(None, lines[1:]):
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(400, "a header without a colon")
        fields[name.strip().lower()] = value.strip()
    if parts[2] == "HTTP/1.0":
        fields.setdefault("connection", "close")
    return parts[0], parts[1].partition("?")[0], fields


async def _body(reader: asyncio.StreamReader, fields: dict[str, str], held: _Held) -> bytes:
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return await _chunks(reader, held)
    length = fields.get("content-length", "0")
    if not length.isdecimal():
        raise Malformed(400, "content-length is no number")
    if int(length) > LONGEST_BODY:
        raise Malformed(413, f"a request has at most {LONGEST_BODY >> 20} MiB")
    held.more(int(length))
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader, held: _Held) -> bytes:
    body = b""
    while True:
        line = (await reader.readuntil(b"\r\n")).decode("latin-1").partition(";")[0].strip()
        try:
            size = int(line, 16)
        except ValueError:
            raise Malformed(400, "a chunk without its size") from None
        if not 0 <= size <= LONGEST_BODY - len(body):
            raise Malformed(413, f"a request has at most {LONGEST_BODY >> 20} MiB")
        if size == 0:
            while (await reader.readuntil(b"\r\n")) != b"\r\n":
                pass
            return body
        held.more(size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def _send(writer: asyncio.StreamWriter, response: Response, *, last: bool) -> None:
    # A client that asks again would ask in vain: the host ends the attempt, or the request is what is wrong.
    fields = "" if response.status == 200 else "x-should-retry: false\r\n"
    fields += "connection: close\r\n" if last else ""
    head = (
        f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Error')}\r\ncontent-type: {response.kind}\r\n"
        f"content-length: {len(response.body)}\r\n{fields}\r\n"
    )
    writer.write(head.encode() + response.body)
