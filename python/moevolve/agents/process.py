"""The sandboxed Python process: what it may read, and the exchange of rounds with it."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from moevolve import _native
from moevolve.agents.limits import Limits
from moevolve.agents.wire import Replies, Round, Start, decode_round, encode
from moevolve.records import Sandbox

_HERE = Path(__file__).resolve().parent
INSIDE = _HERE / "inside"
OPERATORS = _HERE / "operators"

ENVIRONMENT = [("PYTHONHASHSEED", "0"), ("LC_ALL", "C.UTF-8")]
"""The whole environment; so `-P -s -S` isolate as `-I` does, without ignoring the fixed hash seed."""


@cache
def _paths() -> tuple[str, list[str], list[str]]:
    """(interpreter, readable, executable): the standard library, the loader's folders, our own two, and no
    more."""
    interpreter = str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})).resolve()
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"]
    readable = [str(library), str(INSIDE), str(OPERATORS), "/etc/ld.so.cache", *system]
    executable = [interpreter, "/lib", "/lib64", "/usr/lib", "/usr/lib64"]
    shared = sysconfig.get_config_var("LIBDIR")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and shared:
        readable += [str(path.resolve()) for path in Path(shared).glob("libpython3*.so*")]
        readable += [str(path) for path in Path(shared).glob("libpython3*.so*")]
    return interpreter, readable, executable


def layers() -> dict[str, Any]:
    """The sandbox layers that are in force on this machine, as probed."""
    return _native.probe()


def in_force() -> Sandbox:
    """The sandbox layers of this machine by name, for `doctor` and for the run's store."""
    probed = layers()
    named = [
        ("namespaces " + " ".join(probed["namespaces"]), probed["namespaces"]),
        ("private root", probed["private_root"]),
        (f"Landlock ABI {probed['landlock_abi']}", probed["landlock_abi"]),
        ("seccomp", probed["seccomp"]),
        ("limits", True),
    ]
    return Sandbox(
        layers=[name for name, there in named if there], missing=[str(layer) for layer in probed["missing"]]
    )


class Process:
    """One sandboxed process that serves one call.

    Raises:
        SafetyError: `strict`, and a layer is missing.
        SandboxError: the process cannot be started.
    """

    def __init__(self, start: Start, limits: Limits, strict: bool) -> None:
        interpreter, readable, executable = _paths()
        self._limits = limits
        self._clock = limits.seconds
        self._native = _native.spawn(
            interpreter,
            ["-P", "-s", "-S", "-B", "-X", "utf8", str(INSIDE / "worker.py"), str(OPERATORS)],
            ENVIRONMENT,
            readable,
            executable,
            memory=limits.memory_mb << 20,
            cpu_seconds=int(limits.seconds) + 2,
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
