"""MCP servers as tools: `[mcp.NAME]` of a suite's `suite.toml`, over stdio or HTTP.

A server runs beside the host with its user's rights, outside of any sandbox, as a suite's `tools.py` does. One that
remembers something from one call to the next says `state = "attempt"`, and each attempt has a server of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from moevolve.errors import UsageError
from moevolve.protocol.messages import Tool
from moevolve.tasks.tools.process import LARGEST, CallFailed

Value = TypeVar("Value")
START = 60.0
"""Most seconds of a start: some servers load models."""


class ServerLost(CallFailed):
    """A call after which the server is gone, and with it whatever it remembered."""

    def __init__(self, message: str) -> None:
        super().__init__(message, lost=True)


class ServerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server as `suite.toml` describes it.

    Attributes:
        command: what starts it, over stdio, in the suite's folder; `python` is the interpreter that runs the host.
        url: where it listens, over HTTP, in place of a command.
        state: `attempt` where it remembers something between calls: then each attempt has its own.
        env: names of environment variables that it gets; their values stand in no file.
        token_env: of HTTP, the variable that holds a bearer token.
        seconds: most seconds of one call.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    url: Annotated[str, Meta(pattern="^https?://")] | None = None
    state: Literal["none", "attempt"] = "none"
    env: tuple[str, ...] = ()
    token_env: str | None = None
    seconds: Annotated[float, Meta(gt=0.0, le=3600.0)] = 10.0

    def __post_init__(self) -> None:
        if (self.command is None) == (self.url is None):
            raise ValueError("a server has either a `command` or a `url`")
        if self.token_env is not None and self.url is None:
            raise ValueError("`token_env` belongs to a `url`; a command gets its variables by `env`")


class Server:
    """One connection to an MCP server, made when it is wanted; calls of several threads wait for each other.

    Args:
        name: what messages call it.
        section: its description.
        folder: the suite's, where a command runs.
    """

    def __init__(self, name: str, section: ServerSection, folder: Path) -> None:
        self._name = name
        self._section = section
        self._folder = folder
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: Any = None
        self._ending: asyncio.Event | None = None
        self._lock = threading.Lock()

    def tools(self) -> list[Tool]:
        """What it offers.

        Raises:
            UsageError: it cannot be started or reached, or the package `mcp` is not installed.
        """
        with self._lock:
            self._open()
            try:
                return self._wait(self._listed(), START)
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  whatever is described wrongly is told
                self._close()
                late = f"it did not say in {START:g} s what it offers"
                reason = late if isinstance(error, Late) else _innermost(error)
                raise UsageError(f"the MCP server {self._name!r} cannot be used: {reason}"[:1000]) from None

    def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """The result of a call: structured content where there is, else the texts.

        Raises:
            CallFailed: the tool failed, or its result is too large, malformed, or not what its schema promises.
            ServerLost: its server died or said nothing in time.
            UsageError: as of `tools`.
        """
        with self._lock:
            self._open()
            from mcp import MCPError
            from mcp_types import CONNECTION_CLOSED

            try:
                result = self._wait(self._session.call_tool(tool, arguments), self._section.seconds)
            except Late:
                self._close()
                raise ServerLost(f"{tool} said nothing for {self._section.seconds:g} s") from None
            except MCPError as error:
                if error.error.code != CONNECTION_CLOSED:
                    raise CallFailed(f"{tool}: {error}"[:1000]) from None
                self._close()
                raise ServerLost(f"the server of {tool} has died") from None
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  whatever else it fails by is told
                # What a server says wrongly raises here too, and it is there all the same.
                if isinstance(error, ValueError | RuntimeError) and not self._kept.done():
                    raise CallFailed(f"{tool}: {error}"[:1000]) from None
                self._close()
                raise ServerLost(f"{tool}: {_innermost(error)}"[:1000]) from None
        value = _value(result)
        try:
            size = len(msgspec.json.encode(value))
        except ValueError as error:
            raise CallFailed(f"the result of {tool} is no JSON: {error}") from None
        if size > LARGEST:
            raise CallFailed(f"the result of {tool} is larger than {LARGEST >> 20} MiB")
        if result.is_error:
            raise CallFailed(str(value)[:1000])
        return value

    def close(self) -> None:
        """Ends the connection, and the process behind it; a further call makes another."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        if self._session is not None:
            return
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise UsageError(
                f"the suite's tools of the MCP server {self._name!r} need the package `mcp`: "
                "pip install 'moevolve[mcp]'"
            ) from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"mcp {self._name}", daemon=True)
        self._thread.start()
        ready: asyncio.Future[Any] = asyncio.run_coroutine_threadsafe(_future(), self._loop).result()
        self._kept = asyncio.run_coroutine_threadsafe(self._held(ready), self._loop)
        try:
            self._session = self._wait(_awaited(ready), START)
        except Exception as error:  # noqa: BLE001  whatever a server's start fails by is told
            self._close()
            reason = f"it was not ready in {START:g} s" if isinstance(error, Late) else _innermost(error)
            raise UsageError(f"the MCP server {self._name!r} cannot be used: {reason}") from None

    async def _held(self, ready: asyncio.Future[Any]) -> None:
        """The connection from its beginning to its end, in one task, as its scopes want it."""
        from mcp import ClientSession

        self._ending = asyncio.Event()
        try:
            async with AsyncExitStack() as stack:
                streams = await stack.enter_async_context(self._transport())
                session = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
                await session.initialize()
                ready.set_result(session)
                await self._ending.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _transport(self) -> Any:
        section = self._section
        if section.command is not None:
            from mcp.client.stdio import StdioServerParameters, stdio_client

            command = [sys.executable if part == "python" else part for part in section.command[:1]]
            return stdio_client(
                StdioServerParameters(
                    command=command[0],
                    args=list(section.command[1:]),
                    env={name: os.environ[name] for name in section.env if name in os.environ}
                    | {"PYTHONHASHSEED": "0"},
                    cwd=self._folder,
                ),
                errlog=_nowhere(),
            )
        from httpx2 import AsyncClient
        from mcp.client.streamable_http import streamable_http_client

        token = os.environ.get(section.token_env, "") if section.token_env else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return streamable_http_client(
            str(section.url), http_client=AsyncClient(headers=headers, timeout=section.seconds)
        )

    async def _listed(self) -> list[Tool]:
        found = []
        cursor = None
        while True:
            page = await self._session.list_tools(**({"cursor": cursor} if cursor else {}))
            found += [
                Tool(name=each.name, description=each.description or "", parameters=dict(each.input_schema))
                for each in page.tools
            ]
            cursor = page.next_cursor
            if not cursor:
                return found

    def _wait(self, made: Coroutine[Any, Any, Value], seconds: float) -> Value:
        assert self._loop is not None, "a connection has a loop"
        future = asyncio.run_coroutine_threadsafe(made, self._loop)
        try:
            return future.result(seconds)
        except Late:
            future.cancel()
            raise

    def _close(self) -> None:
        loop, self._loop, self._session = self._loop, None, None
        if loop is None:
            return
        if self._ending is not None:
            loop.call_soon_threadsafe(self._ending.set)
        try:
            self._kept.result(10)
        except Exception:  # noqa: BLE001  how an ended connection came to its end tells nobody anything
            self._kept.cancel()
        loop.call_soon_threadsafe(loop.stop)
        assert self._thread is not None, "a loop has its thread"
        self._thread.join(10)


async def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def _awaited(future: asyncio.Future[Value]) -> Value:
    return await future


def _nowhere() -> Any:
    """Where a server's complaints go: into nobody's output."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _innermost(error: BaseException) -> str:
    """The first error in a group of groups, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _value(result: Any) -> Any:
    """A result as JSON can hold it."""
    if result.structured_content is not None:
        value = result.structured_content
        # Servers wrap what is no object.
        return value["result"] if isinstance(value, dict) and set(value) == {"result"} else value
    if all(each.type == "text" for each in result.content):
        return "\n".join(each.text for each in result.content)
    return [each.model_dump(mode="json", exclude_none=True) for each in result.content]


def described(name: str, tools: Sequence[Tool]) -> list[Tool]:
    """A server's tools as a model may be offered them.

    Raises:
        UsageError: a name that no model may call.
    """
    for tool in tools:
        if not tool.name or len(tool.name) > 64 or not all(c.isalnum() or c in "_-" for c in tool.name):
            raise UsageError(f"the MCP server {name!r} offers a tool {tool.name!r}: no model may call it so")
    return list(tools)
