"""A person at a terminal: a run opens its screens, is paused, read, resumed and stopped from them. In tmux, as it is."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

MOEVOLVE = f"{sys.executable} -m moevolve.cli.main"
WATCH = f"{sys.executable} -m moevolve_tui"


class Terminal:
    """A terminal of 100 x 32 in a tmux server of its own.

    Args:
        folder: where its shell works, and its socket lies.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        self._path = folder
        # A size that this process was told, by a shell or by a test, is not this terminal's.
        told = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment = told | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XDG_CONFIG_HOME": str(folder / "settings"),
            "TERM": "xterm-256color",
        }
        self._tmux(
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "32",
            "-c",
            str(folder),
            "sh",
            env=environment,
        )

    def _tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments], capture_output=True, text=True, check=True, env=env
        )
        return done.stdout

    def type(self, text: str) -> None:
        """A line, with Enter."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def text(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def pid(self) -> int:
        """The process in the foreground."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[-1])

    def until(self, *words: str) -> str:
        """Waits until all words stand on the screen."""
        return self.until_true(lambda text: all(each in text for each in words), f"{words}")

    def until_true(self, condition: Callable[[str], bool], what: str, seconds: float = 60.0) -> str:
        pause = threading.Event()
        for _ in range(round(20 * seconds)):
            if condition(text := self.text()):
                return text
            pause.wait(0.05)
        raise AssertionError(f"{what} did not come; the screen:\n{self.text()}")

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


def test_a_run_opens_its_screens_and_is_paused_read_resumed_and_stopped_there(terminal: Terminal) -> None:
    # So many cycles that the pause and the stop come before the last, however fast the machine.
    terminal.type(f"{MOEVOLVE} run small --cycles 60 --out it")
    terminal.until("1 Overview", "Next: p pause after this cycle")
    terminal.until("/60")
    terminal.press("p")
    terminal.until("after this cycle?", "y yes")
    terminal.press("y")
    terminal.until("paused", "/60")
    terminal.press("3")
    terminal.until("3 Lineage", "v0000")
    terminal.press("4")
    terminal.until("4 Diff")
    terminal.press("q")
    terminal.until("`moevolve resume it` goes on")
    terminal.type(f"{WATCH} it")
    # The screen that was shown last is shown again.
    terminal.until("paused", "4 Diff")
    terminal.press("1")
    terminal.until("p resume")
    terminal.press("p", "y")
    terminal.until("● running")
    terminal.press("P", "y")
    terminal.until("✔ finished")
    terminal.press("9")
    terminal.until("Stopped by a person")
    terminal.press("q")
    terminal.until_true(lambda text: "9 Log" not in text, "the shell")


@pytest.mark.long
def test_leaving_the_screens_leaves_the_run_alone(terminal: Terminal) -> None:
    terminal.type(f"{MOEVOLVE} run small --cycles 8 --out it")
    terminal.until("1 Overview")
    terminal.press("q")
    terminal.until("The run goes on")
    terminal.until("Promoted: weights", "draws the curves")


def drawing(folder: Path) -> list[int]:
    """Processes that draw screens over what lies in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"moevolve_tui" in (entry / "cmdline").read_bytes():
                found += [int(entry.name)] if (entry / "cwd").resolve() == folder else []
        except OSError:
            continue  # It has ended.
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_screens_of_a_run_that_is_killed_give_the_terminal_back(
    terminal: Terminal, tmp_path: Path, number: int
) -> None:
    terminal.type(f"{MOEVOLVE} run small --cycles 60 --out it")
    terminal.until("1 Overview")
    os.kill(terminal.pid(), number)
    terminal.until_true(lambda text: "1 Overview" not in text and not drawing(tmp_path), "the shell")
    terminal.type("echo it is $((40 + 2))")
    terminal.until("it is 42")


def test_screens_whose_terminal_is_gone_end_although_nobody_tells_them(
    terminal: Terminal, tmp_path: Path
) -> None:
    # A shell without jobs passes no hang-up on to what ignores its own.
    terminal.type(f"trap '' HUP; {WATCH}")
    terminal.until("0 Runs", "n  start the quickstart here")
    assert drawing(tmp_path)
    terminal.close()
    pause = threading.Event()
    for _ in range(600):
        if not drawing(tmp_path):
            return
        pause.wait(0.05)
    raise AssertionError("it still draws")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal, number: int) -> None:
    terminal.type(WATCH)
    terminal.until("0 Runs", "n  start the quickstart here")
    os.kill(terminal.pid(), number)
    terminal.until_true(lambda text: "0 Runs" not in text, "the shell")
    terminal.type("echo back $?")
    terminal.until(f"back {128 + number}")


def test_a_latin_1_locale_gets_plain_letters(terminal: Terminal) -> None:
    terminal.type(f"PYTHONUTF8=0 PYTHONIOENCODING=iso-8859-1 {WATCH}")
    shown = terminal.until("0 Runs", "n  start the quickstart here")
    assert "\\u" not in shown and "=0 Runs" in shown.replace("-0 Runs", "=0 Runs")
    terminal.press("q")


def test_few_colours_and_none(terminal: Terminal) -> None:
    for environment in ("TERM=xterm COLORTERM=", "NO_COLOR=1"):
        terminal.type(f"clear; {environment} {WATCH}")
        terminal.until("n  start the quickstart here")
        terminal.press("q")
        terminal.until_true(lambda text: "0 Runs" not in text, "the shell")


@pytest.mark.skipif(shutil.which("bash") is None, reason="a shell with jobs is needed")
def test_the_screens_are_suspended_and_come_back(terminal: Terminal) -> None:
    terminal.type("bash --norc")
    terminal.until("bash-")
    terminal.type(WATCH)
    terminal.until("0 Runs", "n  start the quickstart here")
    terminal.press("C-z")
    terminal.until("Stopped")
    terminal.type("fg")
    terminal.until("0 Runs", "n  start the quickstart here")
    terminal.press("q")
    terminal.until_true(lambda text: "0 Runs" not in text, "the shell")


@pytest.mark.parametrize("away", ["2>/dev/null", "2>&-", "2>errors.txt"])
def test_errors_that_are_led_elsewhere_take_no_picture_with_them(terminal: Terminal, away: str) -> None:
    terminal.type(f"{WATCH} {away}")
    terminal.until("0 Runs", "n  start the quickstart here")
    terminal.press("q")
    terminal.until_true(lambda text: "0 Runs" not in text, "the shell")


@pytest.mark.parametrize(
    "command",
    [f"TERM=dumb {WATCH}", f"{WATCH} | cat", f"{WATCH} < /dev/null", f"{WATCH} <&-", f"{WATCH} >&-"],
)
def test_a_dumb_terminal_and_a_pipe_get_a_sentence(terminal: Terminal, command: str) -> None:
    terminal.type(command)
    terminal.until("draws on a terminal, and this is none")
