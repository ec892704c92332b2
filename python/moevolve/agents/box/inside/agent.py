"""The agent's own process in a box: limits, the filter of system calls, and then its program."""

from __future__ import annotations

import asyncio
import builtins
import gc
import importlib
import inspect
import os
import random
import resource
import signal
import sys
import traceback
import types
from typing import Any

from inside import ending, kernel


def begin(job: dict[str, Any], streams: tuple[int, int, int], program: bytes, state: object) -> None:
    """Runs a job's program; does not return."""
    os.chdir("/box/work")
    source = os.open("/box/work", os.O_TMPFILE | os.O_RDWR, 0o600)
    if job["mode"] != "call":  # What a call gets is for it alone, and not for what it starts.
        os.write(source, job["stdin"])
    os.lseek(source, 0, os.SEEK_SET)
    for target, descriptor in enumerate((source, *streams)):
        os.dup2(descriptor, target)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if job["mode"] == "call":
        # What this process says is believed, and what it starts has its user: nobody else writes where it answers.
        os.set_inheritable(3, False)
        kernel.unreadable()
    _limit(job["limits"])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    kernel.confine(program)
    if job["mode"] == "execute":
        os.close(3)
        _heed()
        os.execvpe(job["argv"][0], job["argv"], job["environment"])
    code = 1
    try:
        code = _warm(job, state)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code is not stop.code and code:
            print(stop.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  an agent's own code: whatever it raises is how it ended
        traceback.print_exc()
    if job["mode"] != "call":
        ending.finish("/box/agent")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code & 255)


def _heed() -> None:
    """Has the program ignore no signal: it would inherit what this interpreter, or whoever started the host, ignores."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _limit(limits: dict[str, Any]) -> None:
    each = {
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_CPU: limits["cpu"] + 1,
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_FSIZE: limits["workspace"],
        resource.RLIMIT_CORE: 0,
    }
    for name, value in each.items():
        hard = resource.getrlimit(name)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # SIGXCPU before SIGKILL: what ends at its limit says so.
        last = most + 1 if name == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else most
        resource.setrlimit(name, (most, last))


def _warm(job: dict[str, Any], state: object) -> int:
    """Goes on in the nursery's interpreter, whose libraries are imported."""
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = job["argv"]
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    sys.path.insert(0, "/box/agent")
    if job["mode"] == "script" and (folder := os.path.dirname(job["argv"][0])) != "/box/agent":
        sys.path.insert(0, folder)  # As `python FILE` has it first.
    importlib.invalidate_caches()
    if job["mode"] != "call":
        _uncover(sys.path[: sys.path.index("/box/agent") + 1])
    _reseed(job["seed"])
    gc.enable()
    mode, entry = job["mode"], job["entry"]
    if mode == "script":
        os.close(3)
        _forget()
        _run(job["argv"][0])
        return 0
    module, _, name = entry.partition(":")
    found = getattr(importlib.import_module(module), name)
    if mode == "call":
        _write(found(state, job["stdin"]))
        return 0
    _forget()
    made = found().run(job["stdin"].decode())
    if inspect.isawaitable(made):
        made = asyncio.run(_awaited(made))
    _write(("" if made is None else str(made)).encode("utf-8", "replace"))
    return 0


STARTUP = frozenset(
    {"abc", "codecs", "encodings", "genericpath", "io", "os", "posixpath", "site", "stat", "zipimport"}
    | set(sys.builtin_module_names)
)
"""Modules that an interpreter has before it runs anything, whatever lies in its path."""


def _uncover(folders: list[str]) -> None:
    """Lets an agent's own files stand for what they are called, as in an interpreter that has imported nothing yet: this one
    knows modules of its own by such names, and libraries."""
    own = {name.partition(".")[0] for folder in folders for name in os.listdir(folder)} - STARTUP
    for name in [each for each in sys.modules if each.partition(".")[0] in own]:
        where = getattr(sys.modules[name], "__file__", None) or ""
        if name.partition(".")[0] != "__main__" and not where.startswith("/box/agent/"):
            del sys.modules[name]


def _run(path: str) -> None:
    """Runs a script as the main module, which it stays: threads and functions of its end look there for names."""
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102  the agent's own program


async def _awaited(made: Any) -> Any:
    return await made


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(3, data) :]


def _forget() -> None:
    """Gives the agent's own modules the names that ours have had."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "inside"]:
        del sys.modules[name]


def _reseed(seed: int) -> None:
    """Makes attempts draw differently, and the same attempt the same."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % (1 << 32))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed % (1 << 63))
