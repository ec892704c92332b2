"""How a run shows itself while it runs: as a live screen, as lines, as JSON, or not at all.

All but JSON and the screens go to stderr. `auto` is the screens where they are installed and there is a terminal for
them, one live picture where stderr alone is a terminal, lines elsewhere.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from moevolve.cli.output import line, say
from moevolve.journal.figures import duration
from moevolve.journal.view import RunView, describe
from moevolve.records import Entry, State

MODES = ("auto", "screens", "full", "plain", "json", "none")
QUIET_SECONDS = 10.0
"""After so long without a line, `plain` says again what is being done."""


class Display(Protocol):
    """Follows a run. What it does with events never changes the run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def event(self, entry: Entry) -> None:
        """A record was added to the journal."""

    def state(self, state: State) -> None:
        """The run does something else now."""


def display(mode: str, past: RunView | None = None, run: Path | None = None) -> Display:
    """The display of this name, see `MODES`.

    Args:
        mode: the name.
        past: what is on record of the run already.
        run: its folder, which the screens need; without it they are not among what `auto` chooses from.
    """
    if mode in ("auto", "screens") and run is not None:
        from moevolve.cli.watching import Screens, can_open_screens

        if can_open_screens():
            return Screens(run, past=past)
    if mode in ("auto", "screens"):
        mode = "full" if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    if mode == "full":
        # rich takes a tenth of a second to load, and only this display draws with it.
        from moevolve.cli.live import LiveDisplay

        return LiveDisplay(past=past)
    if mode == "plain":
        return PlainDisplay()
    return JsonDisplay() if mode == "json" else Silent()


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def event(self, entry: Entry) -> None:
        pass

    def state(self, state: State) -> None:
        pass


class JsonDisplay(Silent):
    """One JSON object a journal entry on stdout: `seq`, `hash`, `at` and `took` in seconds, `record`."""

    def event(self, entry: Entry) -> None:
        line(
            {
                "seq": entry.seq,
                "hash": entry.hash,
                "at": entry.timing.at,
                "took": entry.timing.took,
                "record": msgspec.to_builtins(entry.record),
            }
        )


class PlainDisplay(Silent):
    """One line an event, and one whenever something else is being done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doing = ""
        self._said = clock()

    def event(self, entry: Entry) -> None:
        self._say(entry.timing.at, describe(entry.record)[0])

    def state(self, state: State) -> None:
        # A stage that only counts on is the same stage.
        doing = re.sub(r"\d+", "0", state.stage)
        if doing != self._doing or self._clock() - self._said >= QUIET_SECONDS:
            self._doing = doing
            left = f", {duration(state.eta)} left" if state.eta is not None else ""
            self._say(state.seconds, f"... {state.stage} ({state.done:.0%}{left})")

    def _say(self, seconds: float, text: str) -> None:
        say(f"{duration(seconds):>7}  {text}")
        self._said = self._clock()
