"""The screens beside a run, in a process of their own: whatever becomes of them, the run goes on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from moevolve.cli.display import Display, Silent
from moevolve.cli.output import say
from moevolve.journal.view import RunView
from moevolve.records import Entry, State

LEAST = (60, 16)
"""Columns and rows that the screens need."""


def can_open_screens() -> bool:
    """Whether the screens are installed and there is a terminal that they can draw on."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return False
    if os.environ.get("TERM", "dumb") in ("", "dumb") or importlib.util.find_spec("moevolve_tui") is None:
        return False
    size = shutil.get_terminal_size()
    return size.columns >= LEAST[0] and size.lines >= LEAST[1]


class Screens:
    """Shows a run on the screens until the user leaves them, and from then on by another display.

    Args:
        run: the run's folder; it need not exist yet.
        after: what shows the run once the screens are left, or have crashed; told everything from the beginning.
        past: what is on record of the run already.
        command: what draws the screens.
    """

    def __init__(
        self,
        run: Path,
        after: type[Display] | None = None,
        past: RunView | None = None,
        command: Sequence[str] = (sys.executable, "-m", "moevolve_tui"),
    ) -> None:
        self._command = [*command, str(run), "--wait"]
        self._view = past or RunView()
        self._after_kind = after
        self._after: Display | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._process = subprocess.Popen(self._command)
        except OSError as error:
            say(f"The screens could not be opened: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._process.terminate()
            # The end is on the screens: whoever looks at it leaves when they have seen it.
            self._process.wait()
        if self._after is not None:
            self._after.__exit__(kind, error, trace)

    def event(self, entry: Entry) -> None:
        other = self._other()
        if other is None:
            self._view.fold([entry])
        else:
            other.event(entry)

    def state(self, state: State) -> None:
        if (other := self._other()) is not None:
            other.state(state)

    def _other(self) -> Display | None:
        """The display after the screens, once they are gone."""
        if self._after is None and (self._process is None or self._process.poll() is not None):
            if self._process is not None and self._process.returncode:
                say(f"The screens ended with exit code {self._process.returncode}; the run goes on.")
            else:
                say("The run goes on; `moevolve watch` opens its screens again, ctrl+c interrupts it.")
            self._after = self._plain() if self._after_kind is None else self._after_kind()
            self._after.__enter__()
        return self._after

    def _plain(self) -> Display:
        from moevolve.cli.live import LiveDisplay

        return LiveDisplay(past=self._view) if sys.stderr.isatty() else Silent()
