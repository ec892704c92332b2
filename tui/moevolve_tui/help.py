"""The help screen."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

TEXT = """\
[b]Watching a run[/]   All of this comes from its journal.

 [b]q[/]          leave; the run goes on
 [b]1 2 3 4[/]    score, skills, lineage, log   [b]tab[/] next pane
 [b]z[/]          zoom the focused pane, and back
 [b]/[/]          filter the log by words        [b]esc[/] clears it
 [b]f[/]          follow the newest record, or stand still
 [b]j k g G[/]    down, up, top, end (arrows and page keys too)
 [b]s[/]          write the screen as an SVG file
 [b]ctrl+p[/]     all commands, themes among them

 [$warning]◆[/] sealed score with its 95 % interval, always on the same tasks
 [$primary]━[/] dev score of each cycle, fresh tasks;  [$primary 60%]░[/] its 95 % band
 [$success]w[/] [$accent]p[/] under the curve: weights, program promoted in that cycle
 ✔ promoted  ○ kept  ✗ discarded  · screened out  ◌ not chosen  ★ champion"""


class HelpScreen(ModalScreen[None]):
    """Keys and marks; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "close")]

    def compose(self) -> ComposeResult:
        yield Static(TEXT, id="help")
