"""What the screens take in a terminal: CPU to the first full screen, memory, what idling and a live run take, how soon `q`
is followed.

    python benches/screens.py [--entries 203000 1000000] [--require]

Each journal is made as `benches/journal.py` makes it, and shown in a pseudo-terminal of 120 x 40. `--require` fails
where the first full screen takes more than 1 s of CPU (5 s from a million entries on), leaving more than 0.2 s of it, or
the process more than 120 MiB; where nothing happens and that takes more than 1 % of a core, or 20 records a second more
than 15 %; or where a short run's first paint takes more than half as much CPU again as `import textual.app` does, both
the least of some.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from journal import added, write
from moevolve.journal.store import RunStore
from moevolve.records import State, Timing

FULL = "┤".encode()
"""Stands on the axis of the first curve that is drawn."""
RESTORED = b"\x1b[?1049l"
SCREEN_CPU, LATE_CPU, LEAVE_CPU, PEAK_MIB = 1.0, 5.0, 0.2, 120.0
MANY = 1_000_000
"""Entries from which on the first full screen may take `LATE_CPU`."""
IDLE_SHARE, LIVE_SHARE = 0.01, 0.15
RATE, WATCHED = 20, 15.0
"""Records a second of the live run; seconds over which a share of a core is taken."""
PAINT, TRIES = 1.5, 9
BARE = """
from textual.app import App
from textual.widgets import Static


class Bare(App):
    def compose(self):
        yield Static("idle")


Bare().run()
"""
TITLE = b"Overview"
"""Stands on the first screen."""


class Screens:
    """Screens in a pseudo-terminal, those over a run unless told otherwise.

    Args:
        run: the run's folder.
        settings: where they keep theirs.
        start: arguments of the interpreter.
    """

    def __init__(self, run: Path, settings: Path, start: Sequence[str] = ()) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", XDG_CONFIG_HOME=str(settings))
            os.execv(sys.executable, [sys.executable, *(start or ("-m", "moevolve_tui", str(run)))])
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mib(self, name: str) -> float:
        """A figure of /proc/PID/status in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

    def until(self, mark: bytes, seconds: float = 120.0) -> bytes:
        """Reads until `mark` was drawn."""
        drawn, end = b"", time.monotonic() + seconds
        while mark not in drawn and time.monotonic() < end:
            if select.select([self._terminal], [], [], 0.02)[0]:
                try:
                    drawn += os.read(self._terminal, 65536)
                except OSError:
                    break
        return drawn

    def share(self, written: Callable[[int], None] | None = None) -> float:
        """The share of a core over some seconds, in which record after record may be written."""
        before, began, count = self.cpu(), time.monotonic(), 0
        while (gone := time.monotonic() - began) < WATCHED:
            if written is not None and count < RATE * gone:
                written(count)
                count += 1
            self.until(b"\0", 0.02)
        return (self.cpu() - before) / gone

    def settle(self, seconds: float = 3.0) -> None:
        """Reads until no CPU is used for a while."""
        before = -1.0
        while (now := self.cpu()) - before > 0.05 * seconds:
            before = now
            self.until(b"\0", seconds)

    def painted(self) -> float:
        """CPU seconds until the first screen was drawn; ends the process there."""
        self.until(TITLE)
        os.kill(self.pid, signal.SIGKILL)
        _, _, used = os.wait4(self.pid, 0)
        return used.ru_utime + used.ru_stime

    def leave(self) -> float:
        """Presses `q`; returns the CPU seconds until the terminal was as before."""
        before = self.cpu()
        os.write(self._terminal, b"q")
        self.until(RESTORED)
        taken = self.cpu() - before
        os.waitpid(self.pid, 0)
        return taken


def imported(module: str) -> float:
    """CPU seconds of a process that imports a module."""
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", f"import {module}"])
    _, _, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime


def first_paint() -> tuple[float, float]:
    """The least CPU seconds of a first paint, and of importing Textual, tried in turns."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write(run, 100)
        tries = [(Screens(run, Path(folder)).painted(), imported("textual.app")) for _ in range(TRIES)]
    return min(paint for paint, _ in tries), min(alone for _, alone in tries)


def bare() -> float:
    """The share of a core that an application of Textual's with one text takes while nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        screens = Screens(Path(folder), Path(folder), ("-c", BARE))
        screens.until(b"idle", 10.0)
        share = screens.share()
        os.kill(screens.pid, signal.SIGKILL)
        os.waitpid(screens.pid, 0)
    return share


def live(screens: Screens, run: Path) -> float:
    """The share of a core while a run goes on at `RATE` records a second."""
    with RunStore.open(run, write=True) as store:
        said = State(status="running", pid=os.getpid(), stage="writing", done=0.5, eta=None, seconds=1.0)
        store.set_state(said)

        def written(count: int) -> None:
            store.append([added(500_000 + count, ["v0000"])], Timing(at=3.0 + count / RATE))
            store.set_state(msgspec.structs.replace(said, seconds=1.0 + count / RATE))

        return screens.share(written)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[203_000, 1_000_000])
    parser.add_argument("--require", action="store_true", help="fail where a bound is not met")
    options = parser.parse_args()
    paint, alone = first_paint()
    print(f"first paint {paint:.3f} s of CPU, `import textual.app` {alone:.3f} s: {paint / alone:.2f} times")
    print(f"an application of Textual's with one text takes {bare():.1%} of a core while nothing happens")
    late = paint > PAINT * alone
    for count in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            write(run, count)
            screens = Screens(run, Path(folder))
            loading = b"loading" in screens.until(FULL)
            first = screens.cpu()
            screens.settle()
            whole, idle = screens.cpu(), screens.share()
            going = live(screens, run)
            peak, own = screens.mib("VmHWM"), screens.mib("RssAnon")
            left = screens.leave()
        said = ", which says that it loads" if loading else ""
        print(
            f"{count:,} entries: first full screen{said} after {first:.2f} s of CPU, everything after {whole:.2f} s; "
            f"idle {idle:.1%} of a core, {RATE} records a second {going:.1%}; "
            f"{peak:.0f} MiB at most, {own:.0f} MiB of its own; left within {left:.2f} s of CPU"
        )
        late |= first > (SCREEN_CPU if count < MANY else LATE_CPU) or left > LEAVE_CPU or peak > PEAK_MIB
        late |= idle > IDLE_SHARE or going > LIVE_SHARE
    return 1 if options.require and late else 0


if __name__ == "__main__":
    sys.exit(main())
