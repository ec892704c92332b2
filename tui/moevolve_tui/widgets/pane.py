"""What all panes share: a titled window over lines that are drawn only when they are visible."""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from moevolve.journal.drawing.lines import Line
from moevolve.journal.kinds import TONES, Tone
from moevolve_tui.model import RunModel


class Toned(Widget):
    """A widget that draws toned lines; the stylesheet colours `tone--NAME`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tone--{tone}" for tone in TONES}

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._tones: dict[Tone, Style] = {}

    def strip_of(self, line: Line, width: int) -> Strip:
        """One line in the widget's own background."""
        segments = [Segment(text, self._tones.get(tone) or self._mixed(tone)) for text, tone in line]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def _mixed(self, tone: Tone) -> Style:
        """A tone's style; a translucent colour is mixed with the background here, since a terminal cannot."""
        styles = self.get_component_styles(f"tone--{tone}")
        style = self.rich_style + styles.text_style
        if styles.has_rule("color"):
            style += Style.from_color((self.background_colors[1] + styles.color).rich_color)
        self._tones[tone] = style
        return style

    def notify_style_update(self) -> None:
        """A new theme, or another background: mix again."""
        super().notify_style_update()
        self._tones = {}


class Pane(Toned, ScrollView, can_focus=True):
    """A pane of the overview. Subclasses say how many lines they have and draw one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "down", show=False),
        Binding("k,up", "scroll_up", "up", show=False),
        Binding("g,home", "scroll_home", "top", show=False),
        Binding("G,end", "scroll_end", "end", show=False),
    ]
    NAME: ClassVar[str] = ""

    def __init__(self, number: int, model: RunModel) -> None:
        super().__init__(id=f"pane-{self.NAME.lower()}")
        self.model = model
        self.number = number
        self.border_title = self.titled()

    def titled(self) -> str:
        """The pane's title, as markup."""
        return f"[b]{self.number}[/] {self.NAME}"

    def count(self) -> int:
        """Lines there are."""
        raise NotImplementedError

    def draw(self, index: int, width: int) -> Line:
        """Line `index` in `width` cells."""
        raise NotImplementedError

    def renew(self) -> None:
        """Takes the model's change onto the screen."""
        self.virtual_size = Size(0, self.count())
        self.border_title = self.titled()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        line = self.draw(index, width) if 0 <= index < self.count() else []
        return self.strip_of(line, width)
