"""The sandboxed Python process: its start, and the exchange of rounds with it."""

from __future__ import annotations

import marshal
from functools import cache
from pathlib import Path

from moevolve import _native
from moevolve.agents.limits import Limits
from moevolve.agents.readable import interpreter_files
from moevolve.agents.wire import Replies, Round, Start, decode_round, encode
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
import marshal, os
def more(count):
    part = os.read(0, count)
    return part + more(count - len(part)) if part and len(part) < count else part
modules = marshal.loads(more(int.from_bytes(more(4), "little")))
exec(modules["boot"])
import worker
"""
"""What the interpreter is told to do: take the first message for its modules, and begin."""


@cache
def _modules() -> bytes:
    """The code of the modules inside, for an interpreter of this version: compiled here once, instead of there each time."""
    sources = sorted(INSIDE.glob("*.py"))
    return marshal.dumps(
        {source.stem: compile(source.read_bytes(), f"inside/{source.name}", "exec") for source in sources}
    )


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
            strict=strict,
        )
        self._first: bytes | None = encode(start)

    def round(self) -> Round:
        """The next round.

        Raises:
            TimeoutError: the process used up its time.
            SandboxError: it died.
            ValueError: what it sent is not a round.
        """
        from time import monotonic

        began = monotonic()
        try:
            if self._first is not None:
                first, self._first = self._first, None
                self._native.send(_modules(), self._clock)
                self._native.send(first, self._clock)
            return decode_round(self._native.receive(self._limits.frame, self._clock))
        finally:
            self._clock = max(0.0, self._clock - (monotonic() - began))

    def reply(self, replies: Replies) -> None:
        """Answers a round; raises like `round`."""
        self._native.send(encode(replies), self._clock)

    def close(self) -> None:
        """Kills the process and all it started."""
        self._native.close()
