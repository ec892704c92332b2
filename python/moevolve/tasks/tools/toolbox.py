"""All tools of a suite as one: its Python functions, and its MCP servers, one for each attempt where they hold state."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from moevolve.errors import UsageError
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest
from moevolve.tasks.task import Task
from moevolve.tasks.tools.environments import Environments
from moevolve.tasks.tools.process import CallFailed, ToolProcess
from moevolve.tasks.tools.servers import Server, ServerLost, ServerSection, described

MOST_SERVERS = 32
"""Servers of attempts that are there at one time; the one unused for longest goes first, and is brought up to date where its
attempt goes on."""


WORLDS = "an environment"
"""Stands for the suite's environments where a server's name stands; no server is called so."""


class Tools:
    """A suite's tools.

    Args:
        files: Python files with functions.
        servers: MCP servers by name.
        folder: the suite's.
        environments: the file that defines the suite's environments, where it has such.
    """

    def __init__(
        self,
        files: Sequence[Path] = (),
        servers: Mapping[str, ServerSection] | None = None,
        folder: Path = Path(),
        environments: Path | None = None,
    ) -> None:
        self._worlds = None if environments is None else Environments(environments)
        self._process = ToolProcess(files) if files else None
        self._sections = dict(servers or {})
        self._folder = folder
        self._shared = {name: Server(name, section, folder) for name, section in self._sections.items()}
        self._own: OrderedDict[tuple[str, int], Server] = OrderedDict()
        self._done: dict[tuple[str, int], int] = {}
        """Calls that the server of (name, attempt) has had."""
        self._past: dict[tuple[str, int], list[ToolRequest]] = {}
        """Calls of (name, attempt), made or found on record."""
        self._homes: dict[str, str] | None = None
        self._tools: tuple[Tool, ...] = ()
        self._lock = threading.RLock()

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called.

        Raises:
            UsageError: a file or server cannot be used, or two offer a tool of one name.
        """
        with self._lock:
            if self._homes is None:
                self._tools, self._homes = self._found()
            return self._tools

    def expect(self, session: int, task: Task) -> None:
        """Says which task the attempt of a key is at, where that has an environment."""
        if self._worlds is not None and task.environment is not None:
            self._worlds.expect(session, task)

    def begin(self, session: int) -> None:
        """Begins the world of a session whose task is known; errors as of `Environments.begin`."""
        if self._worlds is not None:
            self._worlds.begin(session)

    def home(self, tool: str) -> str:
        """The server of a tool, or what stands for environments; empty for a function."""
        _ = self.tools
        assert self._homes is not None, "tools have their homes"
        return self._homes[tool]

    def call(self, request: ToolRequest) -> Any:
        """The result of a call; errors as of `ToolProcess.call` and `Server.call`."""
        name = self.home(request.tool)
        if name == WORLDS:
            assert self._worlds is not None, "an environment's tools have their process"
            return self._worlds.call(request)
        if not name:
            assert self._process is not None, "functions have their process"
            return self._process.call(request.tool, request.arguments)
        if self._sections[name].state == "none":
            return self._shared[name].call(request.tool, request.arguments)
        with self._lock:
            server, place = self._server(name, request.session), (name, request.session)
            past = self._past.setdefault(place, [])
            for missed in past[self._done[place] :]:
                self._again(server, missed)
            past.append(request)
            self._done[place] = len(past)
            try:
                return server.call(request.tool, request.arguments)
            except ServerLost:
                # What it remembered is made again before the next call, without the one that it did not survive.
                past.pop()
                self._done[place] = 0
                raise

    def seen(self, request: ToolRequest) -> None:
        """Notes a call whose result is on record, so that its attempt's server knows of it if it is asked again."""
        name = self.home(request.tool)
        if name == WORLDS:
            assert self._worlds is not None, "an environment's tools have their process"
            self._worlds.seen(request)
        elif name and self._sections[name].state == "attempt":
            with self._lock:
                self._past.setdefault((name, request.session), []).append(request)

    def release(self, sessions: Iterable[int]) -> None:
        """Ends the servers of attempts that are over."""
        over = set(sessions)
        if self._worlds is not None:
            self._worlds.release(over)
        with self._lock:
            ended = [self._own.pop(place) for place in list(self._own) if place[1] in over]
            for table in (self._past, self._done):
                for place in [place for place in table if place[1] in over]:
                    del table[place]
        for server in ended:
            server.close()

    def forget(self, sessions: Iterable[int]) -> None:
        """Forgets the tasks of attempts that are over and that nobody makes again."""
        if self._worlds is not None:
            self._worlds.forget(sessions)

    def close(self) -> None:
        """Ends everything; a further call starts what it needs."""
        if self._process is not None:
            self._process.close()
        if self._worlds is not None:
            self._worlds.close()
        with self._lock:
            servers = [*self._shared.values(), *self._own.values()]
            self._own.clear()
            self._done.clear()
        for server in servers:
            server.close()

    def _server(self, name: str, session: int) -> Server:
        place = name, session
        if place not in self._own:
            while len(self._own) >= MOST_SERVERS:
                old, server = self._own.popitem(last=False)
                self._done[old] = 0
                server.close()
            self._own[place] = Server(name, self._sections[name], self._folder)
            self._done[place] = 0
        self._own.move_to_end(place)
        return self._own[place]

    def _again(self, server: Server, request: ToolRequest) -> None:
        """Makes a call once more for what it changes; how it ended is on record already."""
        with suppress(CallFailed):
            server.call(request.tool, request.arguments)

    def _found(self) -> tuple[tuple[Tool, ...], dict[str, str]]:
        offered = [("", list(self._process.tools))] if self._process is not None else []
        offered += [(name, described(name, server.tools())) for name, server in sorted(self._shared.items())]
        offered += [(WORLDS, list(self._worlds.tools))] if self._worlds is not None else []
        homes: dict[str, str] = {}
        for name, tools in offered:
            for tool in tools:
                if tool.name in homes:
                    both = " and ".join(repr(each or "tools.py") for each in (homes[tool.name], name))
                    raise UsageError(f"{both} both offer a tool {tool.name!r}: leave one out")
                homes[tool.name] = name
        for name, section in self._sections.items():
            if section.state == "attempt":
                # It has told what it offers; attempts have their own.
                self._shared[name].close()
        return tuple(tool for _, tools in offered for tool in tools), homes
