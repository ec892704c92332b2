"""Process 1 of a box: it reaps, holds the box to its limits, and ends everything when the agent ends."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

INTERVAL = 0.1
"""Seconds between two looks at what the box spends."""
FULL = 1 << 16
"""Bytes that are left of a workspace that is full: what lets go of its own files at its end frees some."""
_TICKS = os.sysconf("SC_CLK_TCK")


def supervise(agent: int, limits: dict[str, Any]) -> dict[str, Any]:
    """Waits until the agent has ended, or a limit of the box is reached; then nothing else lives in it.

    Args:
        agent: its process id.
        limits: `processes`, `cpu` seconds and `memory` bytes, of all processes together.

    Returns:
        `code` or `signal` of the agent; `limit`, the name of a limit that was reached; `full`, whether no space was left.
    """
    ended: dict[str, Any] = {"code": None, "signal": None, "limit": None, "full": False}
    while True:
        signal.sigtimedwait([signal.SIGCHLD], INTERVAL)
        status = _reaped(agent)
        if status is not None:
            if os.WIFSIGNALED(status):
                ended["signal"] = os.WTERMSIG(status)
            else:
                ended["code"] = os.WEXITSTATUS(status)
            killed = ended["signal"] == signal.SIGKILL and _spent() > limits["cpu"]
            if killed or ended["signal"] == signal.SIGXCPU:
                ended["limit"] = "cpu_seconds"
            break
        ended["limit"] = _beyond(limits)
        if ended["limit"]:
            break
    space = os.statvfs("/box/work")
    ended["full"] = space.f_bavail * space.f_frsize < FULL or space.f_favail == 0
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return ended


def _reaped(agent: int) -> int | None:
    """Reaps whoever has ended; the agent's status, if it was among them."""
    found = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process == 0:
            return found
        if process == agent:
            found = status


def _beyond(limits: dict[str, Any]) -> str | None:
    """The limit that the box's processes together have reached; None where there is none."""
    seconds, memory, count = _spent(), 0, 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        used, threads = _usage(name)
        seconds, count = seconds + used, count + threads
        memory += _memory(name)
    if count + 1 >= limits["processes"]:
        return "processes"
    if seconds > limits["cpu"]:
        return "cpu_seconds"
    return "memory_mb" if memory > limits["memory"] else None


def _spent() -> float:
    """Seconds of processor time of those that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _usage(process: str) -> tuple[float, int]:
    """Seconds of processor time of a process and of the children that it has waited for, and its threads."""
    fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return (sum(map(int, fields[11:15])) / _TICKS, int(fields[17])) if len(fields) > 17 else (0.0, 0)


def _memory(process: str) -> int:
    """Bytes of a process, its share of what several have in common."""
    for line in _read(f"/proc/{process}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # It has ended, or its memory is not shown.
        return ""
