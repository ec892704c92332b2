"""A titled window over a page: it draws the lines that can be seen, moves a cursor, and steps into what Enter opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.markup import escape
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from moevolve.journal.drawing.lines import Line
from moevolve.journal.kinds import TONES, Tone
from moevolve.journal.text import line
from moevolve_tui.pages.page import Context, Page, is_log
from moevolve_tui.readable import readable
from moevolve_tui.targets import Target, VariantTarget

GUTTER = 2
"""Cells before a line, where the cursor is marked."""
REACH = 2000
"""Rows that are looked at for the next one that can be opened."""


class Tones(Widget):
    """The tones as the stylesheet colours them, `tone--NAME`: worked out once, for all that draw with them. Never seen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tone--{tone}" for tone in TONES} | {"tone--cursor"}


class Toned(Widget):
    """A widget that draws toned lines.

    Args:
        id: its name in the stylesheet.
        tones: what they look like.
    """

    def __init__(self, *, id: str, tones: Tones) -> None:
        super().__init__(id=id)
        self._styles_of = tones
        self._tones: dict[tuple[Tone, bool], Style] = {}

    def strip_of(self, line: Line, width: int, *, cursor: bool = False) -> Strip:
        """One line in the widget's own background, or in the cursor's."""
        segments = [
            Segment(text, self._tones.get((tone, cursor)) or self._mixed(tone, cursor)) for text, tone in line
        ]
        base = self._tones.get(("plain", cursor)) or self._mixed("plain", cursor)
        return Strip(segments).adjust_cell_length(width, base)

    def _mixed(self, tone: Tone, cursor: bool = False) -> Style:
        """A tone's style, readable on its background; a translucent colour is mixed here, since a terminal cannot."""
        styles = self._styles_of.get_component_styles(f"tone--{tone}")
        background = self.background_colors[1]
        style = self.rich_style + styles.text_style
        if cursor:
            marked = self._styles_of.get_component_styles("tone--cursor")
            background = background + marked.background
            style += Style.from_color(None, background.rich_color)
        color = background + styles.color if styles.has_rule("color") else self.colors[3]
        style += Style.from_color(readable(color, background).rich_color)
        self._tones[tone, cursor] = style
        return style

    def notify_style_update(self) -> None:
        """A new theme, or another background: mix again."""
        super().notify_style_update()
        self._tones = {}


class Pane(Toned, ScrollView, can_focus=True):
    """A pane with a stack of pages, the last of which is shown.

    Args:
        index: its place among the panes.
        context: what pages share.
        page: the first page.
        tones: what tones look like.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False, id="move.down"),
        Binding("k,up", "move(-1)", "up", show=False, id="move.up"),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("g,home", "end(0)", "top", show=False, id="move.top"),
        Binding("G,end", "end(1)", "end", show=False, id="move.end"),
        Binding("enter", "open", "open", show=False, id="open"),
        Binding("left", "sideways(-1)", "fold", show=False, id="move.left"),
        Binding("right", "sideways(1)", "unfold", show=False, id="move.right"),
    ]

    class Opened(Message):
        """Enter, or a click, on a row that stands for something."""

        def __init__(self, pane: Pane, target: Target) -> None:
            self.pane, self.target = pane, target
            super().__init__()

    class Sideways(Message):
        """Left or right, where there is no branch to fold."""

        def __init__(self, step: int) -> None:
            self.step = step
            super().__init__()

    class Moved(Message):
        """The cursor stands elsewhere."""

    def __init__(self, index: int, context: Context, page: Page, tones: Tones) -> None:
        super().__init__(id=f"pane-{index}", tones=tones)
        self.context = context
        self.stack: list[Page] = [page]
        self.cursors: dict[int, int] = {}
        """Cursor by page."""
        self._held: dict[int, Target] = {}
        """What the cursor was moved to, by page: it stays there when rows appear above."""
        self.find = ""

    @property
    def page(self) -> Page:
        return self.stack[-1]

    @property
    def cursor(self) -> int:
        return self.cursors.get(id(self.page), -1)

    @cursor.setter
    def cursor(self, value: int) -> None:
        self.cursors[id(self.page)] = value

    @contextmanager
    def _turn(self) -> Iterator[None]:
        model = self.context.model
        if model is None:
            yield
        else:
            with model.turns.drawing():
                yield

    def show(self, page: Page) -> None:
        """Shows another first page."""
        self.stack = [page]
        self.scroll_to(y=0, animate=False, force=True)
        self.renew()

    def push(self, page: Page) -> None:
        """Steps into a page."""
        self.stack.append(page)
        self.scroll_to(y=0, animate=False, force=True)
        self.renew()

    def step_out(self) -> bool:
        """Steps out of a page; returns whether there was one to step out of."""
        if len(self.stack) == 1:
            return False
        self.cursors.pop(id(self.page), None)
        self._held.pop(id(self.page), None)
        self.stack.pop()
        self.renew()
        self._reveal()
        return True

    def renew(self) -> None:
        """Takes changes onto the screen: builds what changed, and draws it."""
        width, height = self._room()
        if width <= 0 or height <= 0 or not self.display:
            return
        with self._turn():
            changed = self.page.prepare(width, height)
            count = self.page.count()
            self.border_title = escape(self._titled())
            if self.virtual_size.height != count:
                self.virtual_size = Size(0, count)
            if is_log(self.page) and self.page.follow:
                self.cursor = count - 1
            else:
                self.cursor = self._resting(count)
        if is_log(self.page) and self.page.follow:
            self._to_newest()
        if changed:
            self.refresh()
            self._tell()

    def _titled(self) -> str:
        number = self.page.NUMBER
        path = " > ".join(page.NAME for page in self.stack[:-1])
        title = f"{path} > {self.page.heading()}" if path else self.page.heading()
        found = f"   find [{self.find}]" if self.find else ""
        words = f"{number} {title}{found}" if number is not None and not path else f"{title}{found}"
        room, between = self.size.width - 6, "   "
        for hint in map(line, self.page.hints()):
            if cell_len(words + between + hint) > room:
                break
            words, between = words + between + hint, ", "
        return words

    def _room(self) -> tuple[int, int]:
        region = self.scrollable_content_region
        return region.width - GUTTER, region.height

    def render_line(self, y: int) -> Strip:
        width, _ = self._room()
        index = y + self.scroll_offset.y
        with self._turn():
            line = self.page.line(index) if 0 <= index < self.page.count() else []
            marked = index == self.cursor and self.page.target(index) is not None
        here: Line = [("> " if marked else "  ", "mark")]
        return self.strip_of([*here, *line], width + GUTTER, cursor=marked and self.has_focus)

    # The cursor

    def _resting(self, count: int) -> int:
        """Where the cursor stands once rows have changed: on what it was moved to, or else on the first that opens."""
        held, here = self._held.get(id(self.page)), self.cursor
        if held is None and not is_log(self.page):
            return self._nearest(0)
        if held is not None and self.page.target(here) != held:
            for distance in range(1, min(count, REACH)):
                for index in (here + distance, here - distance):
                    if 0 <= index < count and self.page.target(index) == held:
                        return index
        lost = here < 0 or here >= count or self.page.target(here) is None
        return self._nearest(max(0, min(here, count - 1))) if lost else here

    def _hold(self) -> None:
        """Remembers what the cursor was moved to."""
        target = self.page.target(self.cursor)
        if target is not None:
            self._held[id(self.page)] = target

    def _nearest(self, start: int, step: int = 1) -> int:
        """The first row from `start` on that can be opened; `start` where there is none."""
        count = self.page.count()
        for index in range(start, max(-1, min(count, start + step * REACH)), step):
            if 0 <= index < count and self.page.target(index) is not None:
                return index
        return start

    def go(self, index: int) -> None:
        """Moves the cursor to a row, and there into view."""
        old = self.cursor
        self.cursor = max(0, min(self.page.count() - 1, index))
        with self._turn():
            self._hold()
        page = self.page
        if is_log(page) and self.cursor < page.count() - 1:
            page.follow = False
            self.border_title = escape(self._titled())
        self._reveal()
        if old != self.cursor:
            self.refresh()
            self._tell()

    def _reveal(self) -> None:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, force=True)

    def _tell(self) -> None:
        with self._turn():
            target = self.page.target(self.cursor)
        if isinstance(target, VariantTarget) and self.has_focus and target.row != self.context.cursor_row:
            self.context.cursor_row = target.row
            self.post_message(self.Moved())

    def action_move(self, step: int) -> None:
        with self._turn():
            start = self.cursor + step
            index = self._nearest(start, step)
            found = self.page.target(index) is not None
        height = self.scrollable_content_region.height
        inside = self.scroll_offset.y <= self.cursor < self.scroll_offset.y + height
        if found and (abs(index - self.cursor) < max(2, height) or not inside):
            self.go(index)
        else:
            # Nothing to open that way, or far off: what lies between is read first.
            self.scroll_relative(y=step, animate=False, force=True)

    def action_page(self, step: int) -> None:
        height = max(1, self.scrollable_content_region.height - 1)
        with self._turn():
            index = self._nearest(max(0, min(self.page.count() - 1, self.cursor + step * height)), step)
        self.scroll_relative(y=step * height, animate=False, force=True)
        if self.page.target(index) is not None:
            self.go(index)

    def action_end(self, end: int) -> None:
        page = self.page
        if is_log(page) and end:
            page.follow = True
            self.renew()
            return
        with self._turn():
            index = self._nearest(self.page.count() - 1, -1) if end else self._nearest(0)
        self.scroll_to(y=self.page.count() if end else 0, animate=False, force=True)
        if self.page.target(index) is not None:
            self.cursor = index
            self._hold()
            if is_log(page):
                page.follow = False
        self.refresh()
        self._tell()

    def action_open(self) -> None:
        with self._turn():
            target = self.page.target(self.cursor)
        if target is not None:
            self.post_message(self.Opened(self, target))

    def action_sideways(self, step: int) -> None:
        with self._turn():
            folded = self.page.fold(self.cursor, step > 0)
        if folded:
            self.renew()
        else:
            self.post_message(self.Sideways(step))

    def next_hit(self, step: int) -> bool:
        """Moves to the next row that holds what is looked for; returns whether there is one."""
        wanted = self.find.casefold()
        count = self.page.count()
        with self._turn():
            for distance in range(1, min(count, 50_000) + 1):
                index = (self.cursor + step * distance) % count
                if wanted in self.page.words(index).casefold():
                    break
            else:
                return False
        self.scroll_to(
            y=max(0, index - self.scrollable_content_region.height // 2), animate=False, force=True
        )
        self.cursor = index
        with self._turn():
            self._hold()
        self.refresh()
        self._tell()
        return True

    def on_click(self, event: events.Click) -> None:
        index = event.y - self.gutter.top + self.scroll_offset.y
        with self._turn():
            target = self.page.target(index)
        if target is None:
            return
        if index == self.cursor:
            self.action_open()
        else:
            self.go(index)

    def on_resize(self) -> None:
        self.renew()

    def on_focus(self) -> None:
        self.refresh()
        self._tell()

    def on_blur(self) -> None:
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling back means reading: the log then stands still until asked to follow again."""
        super().watch_scroll_y(old_value, new_value)
        page = self.page
        if is_log(page) and page.follow and new_value < old_value and new_value < self.max_scroll_y:
            page.follow = False
            self.border_title = escape(self._titled())

    def _to_newest(self) -> None:
        self.scroll_to(
            y=max(0, self.virtual_size.height - self.scrollable_content_region.height),
            animate=False,
            force=True,
        )
        self.refresh()
