"""Coroutines of a suite's code, run to their end also where no socket may be made: a grader's process has none."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")


class _End:
    """One end of a pipe, as an event loop uses a socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def recv(self, most: int) -> bytes:
        return os.read(self._descriptor, most)

    def send(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        os.close(self._descriptor)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that other threads wake by a pipe."""

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = map(_End, os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        self._internal_fds += 1  # type: ignore[attr-defined]
        self._add_reader(self._ssock.fileno(), self._read_from_self)  # type: ignore[attr-defined]


def ended(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns; whatever it raises."""
    with asyncio.Runner(loop_factory=lambda: _Loop(selectors.PollSelector())) as runner:
        return runner.run(coroutine)
