"""The application: one reading thread over a session of runs, panes over pages.

The reading thread folds in turns and posts `Arrived`; the screen changes in the application's own loop alone.
Leaving touches nothing but this process.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import Event, InputEvent, MouseMove, Resize
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from moevolve_tui import saved
from moevolve_tui.actions import COMMANDS, Actions
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.pages.page import Context, is_log
from moevolve_tui.replay import TICK_SECONDS, Replay
from moevolve_tui.screens import BESIDE, SCREENS, Pages
from moevolve_tui.session import Session
from moevolve_tui.widgets.heading import Heading
from moevolve_tui.widgets.pane import Pane, Tones

POLL_SECONDS = 0.25
QUIET_SECONDS = 2.0
"""The longest wait between two looks, where nothing changes."""
LOADING_TICKS = 6
"""Of so many ticks one draws while a long journal is read."""
LEAST = (60, 16)
"""Columns and rows below which a sentence stands instead of the screens."""


class Arrived(Message):
    """The reading thread has news."""


class WatchApp(Actions):
    """Shows a session of runs. Its result is the message of a fault that ended it, or None.

    Args:
        session: the runs.
        clock: seconds that only grow; a test freezes it.
        screenshots: folder for `s`.
        settings: file of what is kept from one time to the next; None keeps nothing.
    """

    TITLE = "Moevolve"
    CSS_PATH = "screens.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(number), f"screen({number})", page.NAME, show=False, id=f"screen.{page.NAME.lower()}")
            for number, page in enumerate(SCREENS)
        ],
        *[
            Binding(key, action, words, show=show, key_display=display, id=id)
            for id, key, action, words, show, display in COMMANDS
        ],
        Binding("tab", "next_pane(1)", "Pane", show=False, priority=True, id="pane.next"),
        Binding("shift+tab", "next_pane(-1)", "Pane", show=False, priority=True, id="pane.previous"),
        Binding("ctrl+c", "quit", "Leave", show=False, priority=True, id="leave.interrupt"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True, id="leave.suspend"),
    ]

    def __init__(
        self,
        session: Session,
        *,
        clock: Callable[[], float] = time.monotonic,
        screenshots: Path = Path(),
        settings: Path | None = None,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        self.session = session
        self.context = Context(session)
        self.screenshots = screenshots
        self.playback: Replay | None = None
        self.number = 1
        self._settings = settings
        self._saved, self._unread = saved.load(settings)
        self.forced_theme = ""
        """The theme that the terminal asks for, whatever was kept; it is not kept itself."""
        self._clock = clock
        self._heard: tuple[float, float] = (0.0, clock())
        self.hung_up: Callable[[], bool] = lambda: False
        """Whether the terminal is gone, asked at each look."""
        self._leaving = threading.Event()
        self._stirred = threading.Event()
        """A key or a click came, or the screens are left: the reader looks at once."""
        self._told = threading.Event()
        self._dirty = self._drawn = self._roused = self._ticking = False
        self._skipped = 0
        self.pages = Pages(self.context)
        # Held here, not queried: news also comes while another screen is on top, or while this one goes.
        self.tones = Tones(id="tones")
        self.heading = Heading(self.tones)
        self.panes = [Pane(index, self.context, self.pages[1], self.tones) for index in range(3)]
        self._due: dict[int, int] = {}
        """Pane -> the screen that it will show once it is seen."""
        self.context.log_axis, self.zoomed = self._saved.log_axis, self._saved.zoomed

    def compose(self) -> ComposeResult:
        yield self.tones
        yield self.heading
        yield Static("", id="small", markup=False)
        yield Container(*self.panes, id="panes")
        yield Input(id="prompt")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        if self.forced_theme:
            self.theme = self.forced_theme
        elif self._saved.theme in self.available_themes:
            self.theme = self._saved.theme
        if self._unread:
            self.notify(f"Settings stay as they are: {self._unread}", severity="warning", markup=False)
        if self._saved.keymap:
            self.set_keymap(self._saved.keymap)
        self.theme_changed_signal.subscribe(self, lambda theme: self._save(theme.name))
        self._arrange()
        first = self._saved.screen if 0 <= self._saved.screen <= 9 else 1
        self.show_screen(first if self.session.runs else 0)
        self._rouse()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            if threading.current_thread() is threading.main_thread():
                loop.add_signal_handler(number, self._end, number)
        self._read()

    def _end(self, number: int) -> None:
        """Leaves on a signal, with the terminal as it was."""
        if threading.current_thread() is threading.main_thread():
            # Where a shell has the terminal already, to put it right would stop this process.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        self.exit(return_code=128 + number)

    def on_unmount(self) -> None:
        self._leaving.set()
        self._stirred.set()
        self._told.set()

    @property
    def frozen(self) -> bool:
        model = self.session.current
        return model is not None and model.frozen

    # News

    @work(thread=True, exclusive=True, group="reader")
    def _read(self) -> None:
        worker = get_current_worker()
        wait = POLL_SECONDS
        while not (worker.is_cancelled or self._leaving.is_set()):
            if self.hung_up():
                self.call_from_thread(self._end, signal.SIGHUP)
                return
            changed, more = self.session.step()
            if changed and not self._told.is_set():
                self._told.set()
                self.post_message(Arrived())
            # Where nothing changes, the looks grow rare; between two pieces the loop may run: its keys come first.
            busy = changed or more or self.playback is not None
            wait = POLL_SECONDS if busy else min(2 * wait, QUIET_SECONDS)
            if self._stirred.wait(0.0005 if more else wait) and not self._leaving.is_set():
                self._stirred.clear()
                wait = POLL_SECONDS

    @on(Arrived)
    def _arrived(self) -> None:
        self._told.clear()
        model = self.context.model
        if model is not None and model.seconds != self._heard[0]:
            self._heard = model.seconds, self._clock()
        if model is not None and model.hopeless and len(self.session.runs) == 1 and not model.entries:
            self.exit(result=model.fault, return_code=2)
        else:
            self._dirty = True
            self._rouse()

    async def on_event(self, event: Event) -> None:
        await super().on_event(event)
        if isinstance(event, InputEvent) and not isinstance(event, MouseMove):
            # It may have begun to play, to search what is drawn step by step, or to look at another run.
            self._stirred.set()
            self._rouse()

    def _rouse(self) -> None:
        """Draws what is new within a tick; without news no clock ticks."""
        if not self._roused and self.is_running:
            self._roused = True
            self.set_timer(TICK_SECONDS, self._renew_if_dirty)

    def _renew_if_dirty(self) -> None:
        self._roused = False
        if self.playback is not None and self.playback.tick():
            self.session.replay = self.playback.model
            self._dirty = True
        log = self.pages.made(9)
        scanning = log is not None and is_log(log) and log.scanning
        model = self.context.model
        if scanning or self.playback is not None or (model is not None and model.loading):
            self._rouse()
        self._skipped = self._skipped + 1 if model is not None and model.loading and self._drawn else 0
        if self._skipped % LOADING_TICKS:
            # While a long journal is read, drawing every stage of it takes longer than reading it.
            return
        if self._dirty or scanning:
            self._drawn |= model is not None and model.entries > 0
            self._dirty = False
            self.renew()

    def renew(self) -> None:
        """Takes what is new onto the screen."""
        self._tick()
        self._keep_time()
        for pane in self.panes:
            pane.renew()

    @property
    def _live(self) -> bool:
        """Time goes on between two records of the run that is looked at."""
        model = self.context.model
        return model is not None and model.status == "running" and self.playback is None and not model.frozen

    def _keep_time(self) -> None:
        """Draws the time of a live run each second; of no other the clock ticks."""
        if self._live and not self._ticking:
            self._ticking = True
            self.set_timer(1.0, self._second)

    def _second(self) -> None:
        self._ticking = False
        if self._live:
            self._tick()
            self._keep_time()

    def _tick(self) -> None:
        model = self.context.model
        seconds = 0.0
        if model is not None:
            seconds = model.seconds + (max(0.0, self._clock() - self._heard[1]) if self._live else 0.0)
        replay = self.playback.words() if self.playback is not None else ""
        width = max(10, self.size.width - 2)
        if model is None:
            self.heading.tell(heading_lines(None, 0.0, width))
            return
        with model.turns.drawing():
            lines = heading_lines(model, seconds, width, frozen=model.frozen, replay=replay)
        self.heading.tell(lines[: max(2, self.size.height // 3)])

    # The layout

    def on_resize(self, event: Resize) -> None:
        # The application's own size is still the former one.
        self._arrange(event.size)
        self.call_after_refresh(self.renew)

    def _arrange(self, size: Size | None = None) -> None:
        """As many panes as both axes allow; `size` is the terminal's, where that is just changing."""
        width, height = size or self.size
        small = width < LEAST[0] or height < LEAST[1]
        shown = 3 if width >= 180 and height >= 50 else 2 if width >= 120 and height >= 32 else 1
        if self.zoomed or self.number == 0:
            shown = 1
        note = self.query_one("#small", Static)
        note.display = small
        note.update(
            f"{width}x{height} is too small for the screens: they need {LEAST[0]}x{LEAST[1]}. "
            "q leaves; `moevolve show` prints the run."
        )
        self.query_one("#panes").display = not small
        chosen = self.chosen_pane
        for index, pane in enumerate(self.panes):
            pane.display = pane is chosen if shown == 1 else index < shown
            if pane.display and (due := self._due.pop(index, None)) is not None:
                pane.stack = [self.pages[due]]
                pane.scroll_to(y=0, animate=False, force=True)
        if not chosen.display:
            self.panes[0].focus()
        elif not small and chosen.screen.focused is None:
            chosen.focus()  # What is hidden loses it.

    @property
    def chosen_pane(self) -> Pane:
        """The pane that has the focus, or had it last."""
        return next((pane for pane in self.panes if pane.has_class("chosen")), self.panes[0])

    def choose(self, pane: Pane) -> None:
        """Gives a pane the focus."""
        for each in self.panes:
            each.set_class(each is pane, "chosen")
        pane.focus()
        self._arrange()

    @on(Pane.Moved)
    def _moved(self) -> None:
        for pane in self.panes:
            if pane.display:
                pane.renew()

    def on_descendant_focus(self) -> None:
        if isinstance(self.focused, Pane) and not self.focused.has_class("chosen"):
            self.choose(self.focused)

    def show_screen(self, number: int) -> None:
        """Shows a screen in the first pane, and beside it what belongs to it."""
        self.number = number
        self._due = dict(enumerate((number, *BESIDE[number])))
        self.choose(self.panes[0])
        self.call_after_refresh(self.renew)

    def _save(self, theme: str | None = None) -> None:
        if self._unread:
            return
        theme = theme or self.theme
        kept = saved.Saved(
            theme=self._saved.theme if theme == self.forced_theme else theme,
            keymap=self._saved.keymap,
            screen=self.number,
            zoomed=self.zoomed,
            log_axis=self.context.log_axis,
        )
        if (why := saved.store(self._settings, kept)) and self.is_running:
            self.notify(f"Settings are not kept: {why}", severity="warning", markup=False)

    async def action_quit(self) -> None:
        self._save()
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, by its words; then Textual's own."""
        for number, page in enumerate(SCREENS):
            yield SystemCommand(
                f"{number} {page.NAME}",
                f"Show screen {number}",
                lambda number=number: self.show_screen(number),
            )
        for id, key, action, words, _, display in COMMANDS:
            del id

            async def act(action: str = action) -> None:
                await self.run_action(action)

            yield SystemCommand(words, f"Key {display or key}", act)
        yield from super().get_system_commands(screen)
