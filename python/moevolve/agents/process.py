"""The sandboxed Python process: its start, and the exchange of rounds with it."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic

from moevolve import _native
from moevolve.agents.limits import Limits
from moevolve.agents.readable import interpreter_files
from moevolve.agents.wire import Start, encode
from moevolve.config.schema import Isolation
from moevolve.records import Sandbox

_HERE = Path(__file__).resolve().parent
INSIDE = _HERE / "inside"
OPERATORS = _HERE / "operators"

ENVIRONMENT = [("PYTHONHASHSEED", "0"), ("LC_ALL", "C.UTF-8")]
"""The whole environment; so `-P -s -S` isolate as `-I` does, without ignoring the fixed hash seed."""

FLAGS = ["-P", "-s", "-S", "-B", "-X", "utf8"]
"""Switches of the interpreter: no site, nothing of the user's, nothing written."""


def in_force() -> Sandbox:
    """The sandbox layers that are in force on this machine, by name, and those that are missing."""
    probed = _native.probe()
    return Sandbox(layers=[*probed["layers"], "limits"], missing=probed["missing"])


MOST_FILES = 1024
"""Open files of a process that carries the rounds of forked attempts: two of each, and its own."""

BOOT = """
import marshal, posix
def more(count):
    part = posix.read(0, count)
    return part + more(count - len(part)) if part and len(part) < count else part
modules = marshal.loads(more(int.from_bytes(more(4), "little")))
exec(marshal.loads(modules["boot"]))
"""
"""What the interpreter is told to do: take the first message for its modules, and begin."""


@cache
def _modules(isolation: Isolation) -> bytes:
    """The message with the modules inside, for an interpreter of this version: compiled here once, instead of there each
    time, and each for itself, since a call needs few of them."""
    sources = [path for path in sorted(INSIDE.glob("*.py")) if isolation == "attempt" or path.stem != "apart"]
    code = {
        source.stem: compile(source.read_bytes(), f"inside/{source.name}", "exec", optimize=2)
        for source in sources
    }
    body = marshal.dumps({name: marshal.dumps(each) for name, each in code.items()})
    return len(body).to_bytes(4, "little") + body


class Process:
    """One sandboxed process that serves one call.

    Raises:
        SafetyError: `strict`, and a layer is missing.
        SandboxError: the process cannot be started.
    """

    def __init__(self, start: Start, limits: Limits, strict: bool, isolation: Isolation = "batch") -> None:
        paths = interpreter_files()
        self._limits = limits
        self._clock = limits.seconds
        self._native = _native.spawn(
            paths.interpreter,
            [*FLAGS, "-c", BOOT, str(OPERATORS), isolation],
            ENVIRONMENT,
            [*paths.readable, str(OPERATORS)],
            paths.executable,
            hidden=paths.hidden,
            memory=limits.memory_mb << 20,
            cpu_seconds=int(limits.seconds) + 2,
            open_files=MOST_FILES if isolation == "attempt" else 32,
            warm=isolation == "attempt",
            trusted_start=True,
            input=_modules(isolation),
            strict=strict,
        )
        self._first: bytes | None = encode(start)

    def receive(self) -> bytes:
        """Its next message.

        Raises:
            TimeoutError: it used up its time.
            SandboxError: it died.
            ValueError: the message is larger or richer than allowed.
        """
        with self._running():
            if self._first is not None:
                first, self._first = self._first, None
                self._native.send(first, self._clock)
            return self._native.receive(self._limits.frame, self._clock)

    def send(self, body: bytes) -> None:
        """Answers a message; raises like `receive`."""
        self._native.send(body, self._clock)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Counts time against the call's."""
        began = monotonic()
        try:
            yield
        finally:
            self._clock = max(0.0, self._clock - (monotonic() - began))

    def close(self) -> None:
        """Kills the process and all it started."""
        self._native.close()
