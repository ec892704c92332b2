"""An evaluation under way, seen by the process that forked it: what it says, prints, holds and starts."""

from __future__ import annotations

import os
import select
import stat
import time
from contextlib import suppress

from moevolve.tasks.evaluators.inside import walls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_REPLY = 2 << 20
"""Bytes of a reply."""
KEPT_OUTPUT = 4096
"""Bytes of what an evaluation prints that are kept, the newest."""
TICK = 0.05
"""Seconds between two looks at memory and processes of an evaluation that takes longer."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """An evaluation under way: its reply, its output, and whether it stays within its limits."""

    def __init__(
        self,
        channel: int,
        inlet: int,
        heard: int,
        child: int,
        limits: dict[str, Any],
        began: float,
        *,
        alone: bool,
    ) -> None:
        self.child = child
        self.reply = bytearray()
        self.output = bytearray()
        self.status = 0
        self.cpu = 0.0
        self._channel = channel
        self._inlet = inlet
        self._heard = heard
        self._limits = limits
        self._deadline = began + limits["seconds"]
        self._alone = alone
        """Whether nobody else is in the namespace of shared memory."""
        self._looked = began
        self._printed = 0
        self.hostless = False

    def follow(self) -> tuple[str, str] | None:
        """Waits for the fork's end; the failure and its detail if a limit comes first."""
        ended = os.pidfd_open(self.child)
        os.set_blocking(self._inlet, False)
        os.set_blocking(self._heard, False)
        poll = select.poll()
        poll.register(self._channel, select.POLLHUP)
        for descriptor in (self._inlet, self._heard, ended):
            poll.register(descriptor, select.POLLIN)
        try:
            while True:
                now = time.monotonic()
                left = self._deadline - now
                if left <= 0:
                    return "timeout", f"it took more than {self._limits['seconds']:g} s"
                wait = min(left, max(0.0, self._looked + TICK - now))
                ready = [descriptor for descriptor, _ in poll.poll(wait * 1000)]
                if self._channel in ready:
                    self.hostless = True
                    return "crashed", "the host is gone"
                if ended in ready:
                    return self._rest()
                # One that always has something to say is looked at as often as one that is silent.
                failure = self._beyond() if time.monotonic() >= self._looked + TICK else None
                for descriptor in (self._inlet, self._heard):
                    if failure is None and descriptor in ready:
                        part = os.read(descriptor, 1 << 16)
                        if not part:
                            poll.unregister(descriptor)
                        failure = self._take(descriptor, part)
                if failure is not None:
                    return failure
        finally:
            os.close(ended)

    def _rest(self) -> tuple[str, str] | None:
        """Takes what lies in the pipes of a fork that has ended."""
        for descriptor in (self._inlet, self._heard):
            with suppress(BlockingIOError):
                while part := os.read(descriptor, 1 << 16):
                    if (failure := self._take(descriptor, part)) is not None:
                        return failure
        return None

    def _take(self, descriptor: int, part: bytes) -> tuple[str, str] | None:
        if descriptor == self._heard:
            return self._hear(part)
        self.reply += part
        if len(self.reply) > MOST_REPLY:
            return "output", f"what it returned has more than {MOST_REPLY >> 20} MiB"
        return None

    def _hear(self, part: bytes) -> tuple[str, str] | None:
        self._printed += len(part)
        self.output += part
        del self.output[:-KEPT_OUTPUT]
        if self._printed > self._limits["output"]:
            return "output", f"it printed more than {self._limits['output'] >> 10} KiB"
        return None

    def _beyond(self) -> tuple[str, str] | None:
        """The failure of an evaluation that holds too much memory or too many processes."""
        self._looked = time.monotonic()
        family = self.family()
        if len(family) > self._limits["processes"]:
            return "processes", f"it had more than {self._limits['processes']} processes at once"
        held = sum(map(_resident, family)) + _unnamed(family)
        held += walls.shared_bytes() if self._alone else 0
        if held > self._limits["memory"]:
            return "memory", f"its processes held more than {self._limits['memory'] >> 20} MiB"
        return None

    def reap(self) -> bool:
        """Takes note of what has ended; whether anything still runs."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self.cpu += usage.ru_utime + usage.ru_stime
            if pid == self.child:
                self.status = status

    def family(self) -> list[int]:
        """The processes that descend from this one."""
        found: list[int] = []
        waiting = [os.getpid()]
        while waiting:
            pid = waiting.pop()
            children: list[int] = []
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with suppress(OSError):
                        children += map(int, _content(f"/proc/{pid}/task/{task}/children").split())
            found += children
            waiting += children
        return found


def _content(path: str) -> str:
    with open(path) as file:
        return file.read()


def _unnamed(family: list[int]) -> int:
    """Bytes of files without a name that processes hold open: in memory, and in no mapping of theirs."""
    files: dict[tuple[int, int], int] = {}
    for pid in family:
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    told = descriptor.stat()
                    if stat.S_ISREG(told.st_mode) and not told.st_nlink:
                        files[told.st_dev, told.st_ino] = told.st_blocks * 512
    return sum(files.values())


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds: its own, and its share of what it has in common with others."""
    with suppress(OSError, ValueError, StopIteration):
        lines = _content(f"/proc/{pid}/smaps_rollup").splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) << 10
    try:
        _, resident, shared, *_ = _content(f"/proc/{pid}/statm").split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE
