"""What the terminal can show: its encoding and its colours."""

from __future__ import annotations

import os
import signal
import sys
import termios

from textual.driver import Driver

from moevolve_tui.plain import lacks_glyphs, plain

PARENT_DEATH = 1
"""`PR_SET_PDEATHSIG` of prctl(2)."""


def on_terminal() -> bool:
    """Whether there is a terminal to draw on, and to read keys from. One that errors alone are led away from is drawn on
    through the output."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return False
    if sys.stderr is None:
        # No file of a run may get the number to which libraries write their errors.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        # Textual draws there.
        drawn = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding)
        sys.__dict__["__stderr__"] = drawn
    return True


def hung_up() -> bool:
    """Whether the terminal is gone for good, whoever was told: no key comes from it, and nothing shows."""
    try:
        termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        return True
    return False


def end_with_parent() -> None:
    """Has this process end when the one that started it does: whose terminal it was, a shell has from then on."""
    if sys.platform == "linux":
        import ctypes

        before = os.getppid()
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGTERM)
        if os.getppid() != before:
            os.kill(os.getpid(), signal.SIGTERM)


def driver() -> type[Driver] | None:
    """A driver that writes plain letters, for an encoding that lacks the glyphs; None where nothing is to be changed."""
    encoding = getattr(sys.__stderr__, "encoding", None)
    if not lacks_glyphs(encoding):
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class PlainDriver(LinuxDriver):
        """Linux's driver, in plain letters."""

        def write(self, data: str) -> None:
            super().write(plain(data, encoding or "ascii"))

    return PlainDriver


def few_colours() -> bool:
    """Whether the terminal has 16 colours or fewer: its own are then used as they are."""
    if os.environ.get("COLORTERM", "") in ("truecolor", "24bit"):
        return False
    term = os.environ.get("TERM", "")
    return not any(word in term for word in ("256", "truecolor", "direct", "kitty", "alacritty", "ghostty"))
