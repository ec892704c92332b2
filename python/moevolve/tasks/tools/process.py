"""A suite's tools, seen from the host: a process that is started when they are wanted, and again when a call kills it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.protocol.messages import Tool

SECONDS = 10.0
"""Most seconds of one call, and of a start."""
LARGEST = 1 << 20
"""Bytes of a result."""


class CallFailed(Exception):
    """A call that has no result: the tool raised, did not end, died, or its result is too large.

    Args:
        message: why.
        lost: whether whatever ran the tool is gone, and with it what it remembered.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class _Said(msgspec.Struct, frozen=True):
    tools: list[Tool] | None = None
    result: Any = None
    error: str | None = None


class ToolProcess:
    """Tools that Python files define. Calls of several threads wait for each other.

    The files are the suite's, as trusted as its check: the process has the rights of whoever runs Moevolve.

    Args:
        files: Python files with functions.
        seconds: most seconds of one call.
        module: what the process runs.
    """

    def __init__(
        self,
        files: Sequence[Path],
        seconds: float = SECONDS,
        module: str = "moevolve.tasks.tools.worker",
    ) -> None:
        self.starts = 0
        """Processes that there have been."""
        self._module = module
        self._files = tuple(files)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._tools: tuple[Tool, ...] | None = None
        self._lock = threading.Lock()

    @property
    def tools(self) -> Sequence[Tool]:
        """What may be called.

        Raises:
            UsageError: a file cannot be imported, or a function of it cannot be a tool; with the traceback.
        """
        with self._lock:
            if self._tools is None:
                self._start()
            assert self._tools is not None, "a start describes the tools"
            return self._tools

    def begin(self) -> None:
        """Starts the process where there is none; errors as of `tools`."""
        with self._lock:
            if self._process is None:
                self._start()

    def call(self, tool: str, arguments: dict[str, Any], **more: Any) -> Any:
        """The result of a call; `more` is told to the process beside it.

        Raises:
            CallFailed: there is none; says why.
            UsageError: as of `tools`.
        """
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None and self._process.stdin is not None, "a start has a process"
            try:
                self._process.stdin.write(
                    msgspec.json.encode({"tool": tool, "arguments": arguments, **more}) + b"\n"
                )
                self._process.stdin.flush()
            except OSError:
                self._end()
                raise CallFailed(f"the process of {tool} has died", lost=True) from None
            said = self._read(tool)
        if said.error is not None:
            raise CallFailed(said.error)
        return said.result

    def close(self) -> None:
        """Ends the process; a further call starts another."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        self.starts += 1
        command = [sys.executable, "-m", self._module, *map(str, self._files)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
            # A group of its own: whatever a tool has started ends with it.
            start_new_session=True,
        )
        try:
            said = self._read("the tools' files")
        except CallFailed as error:
            raise UsageError(f"the suite's tools cannot be loaded: {error}") from None
        if said.error is not None or said.tools is None:
            self._end()
            raise UsageError(f"the suite's tools cannot be loaded:\n{said.error}")
        self._tools = tuple(said.tools)

    def _read(self, what: str) -> _Said:
        """The process's next line; whatever keeps it from coming ends the process."""
        assert self._process is not None and self._process.stdout is not None
        output = self._process.stdout.fileno()
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(self._seconds):
                    self._end()
                    raise CallFailed(f"{what} said nothing for {self._seconds:g} s", lost=True)
                part = os.read(output, 1 << 16)
                line += part
                if not part or len(line) > LARGEST:
                    self._end()
                    raise CallFailed(
                        f"{what} died"
                        if not part
                        else f"the result of {what} is larger than {LARGEST >> 20} MiB",
                        lost=True,
                    )
        try:
            return msgspec.json.decode(line, type=_Said)
        except msgspec.DecodeError as error:
            self._end()
            raise CallFailed(f"{what}: {error}", lost=True) from None

    def _end(self) -> None:
        """Ends the process and what it started; nothing that still holds its output is waited for."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # What was not sent is lost with whom it was for.
                    pipe.close()
