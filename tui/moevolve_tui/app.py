"""The application: one reader thread, one model, four panes.

The reader thread only posts `Arrived`; the model and the screen change in the application's own loop alone.
Leaving touches nothing but this process.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus
from textual.message import Message
from textual.widgets import Footer, Input
from textual.worker import get_current_worker

from moevolve.errors import MoevolveError
from moevolve.journal.text import line
from moevolve_tui.help import HelpScreen
from moevolve_tui.model import RunModel
from moevolve_tui.reader import News, Reader
from moevolve_tui.widgets.curve import CurvePane
from moevolve_tui.widgets.heading import Heading
from moevolve_tui.widgets.lineage import LineagePane
from moevolve_tui.widgets.log import LogPane
from moevolve_tui.widgets.pane import Pane
from moevolve_tui.widgets.skills import SkillsPane

POLL_SECONDS = 0.25


class Arrived(Message):
    """The reader found something new."""

    def __init__(self, news: News) -> None:
        self.news = news
        super().__init__()


class WatchApp(App[str]):
    """Watches one run. Its result is the message of a fault that ended it, or None.

    Args:
        reader: where news comes from.
        place: what is watched, in words, for the time before it starts.
        clock: seconds that only grow; a test freezes it.
        screenshots: folder for `s`.
    """

    TITLE = "Moevolve"
    CSS_PATH = "watch.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (72, "-narrow"), (120, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Leave", id="leave"),
        Binding("ctrl+c", "quit", "Leave", show=False, id="leave.interrupt"),
        Binding("1", "pane(1)", "Score", show=False, id="pane.score"),
        Binding("2", "pane(2)", "Skills", show=False, id="pane.skills"),
        Binding("3", "pane(3)", "Lineage", show=False, id="pane.lineage"),
        Binding("4", "pane(4)", "Log", show=False, id="pane.log"),
        Binding("tab", "next_pane(1)", "Pane", key_display="1-4 tab", priority=True, id="pane.next"),
        Binding("shift+tab", "next_pane(-1)", "Pane", show=False, priority=True, id="pane.previous"),
        Binding("z", "zoom", "Zoom", id="zoom"),
        Binding("slash", "filter", "Filter", key_display="/", id="filter"),
        Binding("f", "follow", "Follow", id="follow"),
        Binding("s", "picture", "SVG", id="picture"),
        Binding("question_mark", "help", "Help", key_display="?", id="help"),
        Binding("escape", "step_out", "Back", show=False, id="back"),
    ]

    def __init__(
        self,
        reader: Reader,
        *,
        place: str = "",
        clock: Callable[[], float] = time.monotonic,
        screenshots: Path = Path(),
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        self.model = RunModel()
        self.model.stage = (
            f"Waiting for a run in {line(place)}; it is shown as soon as it starts" if place else ""
        )
        self._reader = reader
        self._clock = clock
        self._heard = clock()
        self._screenshots = screenshots
        self._leaving = threading.Event()
        self._taken = threading.Event()
        # Held here, not queried: news also comes while another screen is on top, or while this one goes.
        self.heading = Heading(self.model)
        self.log_pane = LogPane(4, self.model)
        self.panes: list[Pane] = [
            CurvePane(1, self.model),
            SkillsPane(2, self.model),
            LineagePane(3, self.model),
            self.log_pane,
        ]

    def compose(self) -> ComposeResult:
        yield self.heading
        yield Container(*self.panes, id="panes")
        yield Input(placeholder="words to look for in the log", id="filter")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.panes[0].add_class("chosen")
        self.panes[0].focus()
        self.set_interval(1.0, self._tick)
        self._follow_run()

    def on_unmount(self) -> None:
        self._leaving.set()

    @work(thread=True, exclusive=True, group="reader")
    def _follow_run(self) -> None:
        worker = get_current_worker()
        while not (worker.is_cancelled or self._leaving.is_set()):
            news = self._reader.poll()
            if news is not None:
                self._taken.clear()
                self.post_message(Arrived(news))
                if news.fatal:
                    return
                # One piece at a time: keys that were pressed meanwhile come before the next.
                while not (self._taken.wait(0.1) or worker.is_cancelled or self._leaving.is_set()):
                    pass
            if news is None or not news.more:
                self._leaving.wait(POLL_SECONDS)

    @on(Arrived)
    def _take(self, message: Arrived) -> None:
        news = message.news
        if news.fatal:
            self.exit(result=news.fault, return_code=2)
            return
        self.heading.fault = line(news.fault)
        if not news.fault:
            before = self.model.seconds
            if news.folder is not None and not self.model.entries:
                self.model.attach(news.folder)
            self.model.fold(news.records)
            self.model.observe(news.state, news.alive)
            if self.model.seconds != before:
                self._heard = self._clock()
            if not news.more:
                for pane in self.panes:
                    pane.renew()
        self._tick()
        self._taken.set()

    def _tick(self) -> None:
        """Time goes on between two records of a run that runs."""
        since = self._clock() - self._heard if self.model.status == "running" else 0.0
        self.heading.seconds = self.model.seconds + since
        self.heading.refresh()

    @on(DescendantFocus)
    def _choose(self) -> None:
        if isinstance(self.focused, Pane):
            for pane in self.panes:
                pane.set_class(pane is self.focused, "chosen")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While help is open, its own keys count."""
        return not (
            isinstance(self.screen, HelpScreen) and action in ("next_pane", "pane", "zoom", "filter", "help")
        )

    def action_pane(self, number: int) -> None:
        """Focuses pane `number`, and shows it where only one fits."""
        for pane in self.panes:
            pane.set_class(pane.number == number, "chosen")
        self.panes[number - 1].focus()

    def action_next_pane(self, step: int) -> None:
        chosen = next(index for index, pane in enumerate(self.panes) if pane.has_class("chosen"))
        self.action_pane((chosen + step) % len(self.panes) + 1)

    def action_zoom(self) -> None:
        self.query_one("#panes").toggle_class("zoomed")

    def action_follow(self) -> None:
        self.log_pane.toggle_follow()

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.add_class("open")
        self.action_pane(4)
        field.focus()

    @on(Input.Changed, "#filter")
    def _filter(self, event: Input.Changed) -> None:
        self.log_pane.filter(event.value)

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self.query_one("#filter").remove_class("open")
        self.log_pane.focus()

    def action_step_out(self) -> None:
        """One step out: the filter first, then the zoom."""
        field = self.query_one("#filter", Input)
        if field.has_class("open") or self.log_pane.wanted:
            field.value = ""
            field.remove_class("open")
            self.log_pane.filter("")
            self.log_pane.focus()
        else:
            self.query_one("#panes").remove_class("zoomed")

    def action_picture(self) -> None:
        """Writes the screen as SVG beside where the watcher was started, never into the run's folder."""
        name = "".join(
            letter if letter.isalnum() or letter in "-_" else "-" for letter in self.model.run or "run"
        )
        taken = (self._screenshots / f"moevolve-{name}-{number}.svg" for number in range(1, 10_000))
        try:
            path = next(path for path in taken if not path.exists())
            path.write_text(self.export_screenshot(title=f"moevolve watch {name}"), encoding="utf-8")
        except OSError as error:
            self.notify(f"No picture: {error}", severity="error", markup=False)
        else:
            self.notify(f"Wrote {path}", markup=False)


def main(path: Path | None = None, *, runs: Path = Path("runs"), wait: bool = False) -> int:
    """Watches the run in `path`, or the newest one under `runs`, until the user leaves.

    Args:
        path: a run folder; it may be one in which the run has not started yet.
        runs: where the newest run is looked for when `path` is None.
        wait: also waits for a folder that does not exist yet.

    Returns:
        The exit code: 0 after leaving, 2 when there is nothing to watch or no terminal to show it on.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "") in ("", "dumb"):
        print(
            "moevolve watch draws on a terminal, and this is none; "
            "`moevolve show DIR` and `moevolve report DIR` print the same run",
            file=sys.stderr,
        )
        return 2
    # The store is a native library; the import waits until there is a terminal to use it for.
    from moevolve_tui.attach import locate, open_run

    try:
        found = locate(path, runs, wait=wait)
    except MoevolveError as error:
        print(f"moevolve watch: {error}", file=sys.stderr)
        return 2
    app = WatchApp(Reader(found, open_run), place=str(path or runs))
    fault = app.run()
    if fault:
        print(f"moevolve watch: {fault}", file=sys.stderr)
    return app.return_code or 0
