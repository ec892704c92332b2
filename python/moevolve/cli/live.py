"""The live screen of a run: progress with time left, what is being done, the score, the newest events."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from moevolve.journal.figures import duration, interval, score
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve.journal.view import RunView, describe
from moevolve.records import Entry, State, Trained

EVENTS = 6
BLOCKS = "▁▂▃▄▅▆▇█"
STYLES: dict[Tone, str] = {
    "head": "bold",
    "good": "bold green",
    "warn": "yellow",
    "bad": "yellow",
    "sealed": "bold",
    "curve": "bold",
}
"""Tone of a sentence -> its style; any other is dim."""
REFRESH = 4
"""Pictures a second."""


class LiveDisplay:
    """Draws on stderr until the run ends; the last picture stays.

    Args:
        console: where to draw.
        clock: seconds that only grow.
        past: what is on record of a run that goes on.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        past: RunView | None = None,
    ) -> None:
        console = console or Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
        self._clock = clock
        self._state = State(
            status="running", pid=0, stage="loading the policy", done=0.0, seconds=0.0, eta=None
        )
        self._heard = clock()
        self._view = past or RunView()
        self._events: deque[tuple[float, str, str]] = deque(maxlen=EVENTS)
        self._trained = False
        self._spinner = Spinner("dots")
        self._live = Live(self, console=console, refresh_per_second=REFRESH, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def event(self, entry: Entry) -> None:
        self._view.fold([entry])
        text, tone = describe(entry.record)
        if isinstance(entry.record, Trained) and self._trained:
            self._events.pop()
        self._trained = isinstance(entry.record, Trained)
        self._events.append((entry.timing.at, text, STYLES.get(tone, "dim")))

    def state(self, state: State) -> None:
        self._state = state
        self._heard = self._clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        since = self._clock() - self._heard if self._state.status == "running" else 0.0
        state = self._state
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True, justify="right")
        left = f", {duration(max(0.0, state.eta - since))} left" if state.eta is not None else ""
        head.add_row(
            Text(f"{state.done:4.0%}", style="bold"),
            ProgressBar(total=1.0, completed=state.done),
            f"{duration(state.seconds + since)}{left}",
        )
        if started := self._view.started:
            title = f"{line(started.run)}  seed {started.seed}, arm {started.arm}"
            yield Text(title, style="bold", no_wrap=True, overflow="ellipsis")
        yield head
        stage = Text(no_wrap=True, overflow="ellipsis", style="cyan")
        if state.status == "running":
            stage.append(f"{self._spinner.render(self._clock())} ")
        yield stage.append(line(state.stage))
        yield self._score()
        for at, text, style in self._events:
            yield Text(f"{duration(at):>7}  {text}", style=style, no_wrap=True, overflow="ellipsis")

    def _score(self) -> Text:
        """The dev score with its gain since the first one; before any the sealed score."""
        view = self._view
        first, newest = view.point("dev") or view.point("sealed"), view.point("dev", newest=True)
        if first is None:
            return Text("score: not measured yet", style="dim")
        text = Text(f"{first.split} {score(first.score.mean, 3)}", no_wrap=True, overflow="ellipsis")
        if newest is None:
            text.append(f", {interval(first.score)}  ")
        else:
            text.append(f" > {interval(newest.score)}  ", style="bold")
        means = [point.score.mean for point in view.curve if point.split == first.split]
        text.append(sparkline(means[-40:]), style="green")
        return text


def sparkline(values: Sequence[float]) -> str:
    """One block a value in [0, 1]."""
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * min(1.0, max(0.0, value)))] for value in values)
