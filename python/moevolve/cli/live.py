"""The live screen of a run: progress with time left, what is being done, the score, the newest events."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from moevolve.records import CycleStarted, Entry, Evaluated, Gated, RunStarted, State, Trained
from moevolve.report.chart import sparkline
from moevolve.report.sentences import duration, plain, sentence

EVENTS = 6
REFRESH = 4
"""Pictures a second."""


class LiveDisplay:
    """Draws on stderr until the run ends; the last picture stays.

    Args:
        console: where to draw.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        console = console or Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
        self._clock = clock
        self._state = State(
            status="running", pid=0, stage="loading the policy", done=0.0, seconds=0.0, eta=None
        )
        self._heard = clock()
        self._title = ""
        self._scores: list[Evaluated] = []
        self._events: deque[tuple[float, str, str]] = deque(maxlen=EVENTS)
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
        record = entry.record
        if isinstance(record, RunStarted):
            self._title = f"{record.run}  seed {record.seed}, arm {record.arm}"
        elif isinstance(record, Evaluated):
            self._scores.append(record)
        if isinstance(record, Trained) and self._events and self._events[-1][1].startswith("trained "):
            self._events.pop()
        self._events.append((entry.timing.at, sentence(record), self._tone(record)))

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
        if self._title:
            yield Text(plain(self._title), style="bold", no_wrap=True, overflow="ellipsis")
        yield head
        stage = Text(no_wrap=True, overflow="ellipsis", style="cyan")
        if state.status == "running":
            stage.append(f"{self._spinner.render(self._clock())} ")
        yield stage.append(plain(state.stage))
        yield self._score()
        for at, text, style in self._events:
            yield Text(f"{duration(at):>7}  {text}", style=style, no_wrap=True, overflow="ellipsis")

    def _score(self) -> Text:
        if not self._scores:
            return Text("score: not measured yet", style="dim")
        first, last = self._scores[0].score, self._scores[-1].score
        trend = sparkline([found.score.mean for found in self._scores[-40:]])
        text = Text(f"score {first.mean:.3f}", no_wrap=True, overflow="ellipsis")
        if len(self._scores) > 1:
            text.append(f" > {last.mean:.3f}", style="bold")
            text.append(f" [{last.low:.3f}, {last.high:.3f}] ({self._scores[-1].split})  ")
        else:
            text.append(f" [{first.low:.3f}, {first.high:.3f}]  ")
        text.append(trend, style="green")
        return text

    def _tone(self, record: object) -> str:
        if isinstance(record, Gated):
            return "bold green" if record.decision == "promote" else "yellow"
        return "bold" if isinstance(record, Evaluated | CycleStarted) else "dim"
