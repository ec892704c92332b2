"""Small screens on top: a question that is answered by yes or no, and help."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
Everything here comes from the runs' journals; leaving touches no run.

0 runs  1 overview  2 skills  3 lineage  4 diff  5 train  6 memory
7 guards  8 system  9 log                    tab   next pane

enter  open what the cursor is on            esc   step out
j k g G, arrows, page keys   move            left right   fold, read
/      filter (log), search (memory)         n N   next, previous hit
space  freeze the picture; on 0 mark a run   f     follow the newest
z      zoom the pane                         c     compare, m marks
d      diff of a variant   x   its source    a     attempts kept
o      overlay marked runs                   O     sort skills
l      logarithmic axis                      e     decisions alone
u      diff side by side or not              [ ]   hunks of a diff
s      picture as SVG                        y     copy an id
p      pause or resume     P   stop          A R   approve, reject
t      replay: . , step   > < cycle   space plays   + - speed   T go to
h      write the report page                 v     how to serve it
: or ctrl+p   every command, themes          q     leave

Marks: ✔ promoted  ○ kept  ✗ discarded or failed  · screened out
★ champion  ◌ not chosen  ◐ waits for you  ⊘ vetoed  ↶ rolled back
? undecided   W weights   P program   S seed   c3 made in cycle 3
◆ sealed score, always on the same tasks   ━ dev score, fresh tasks
░ 95 % interval   w p weights, program promoted   n tasks of a figure
Colour says only that a change leaves its 95 % interval; + and ! say so
too."""


class HelpScreen(ModalScreen[None]):
    """Keys and marks; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close"),
        Binding("j,down", "down", show=False),
        Binding("k,up", "up", show=False),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(HELP, markup=False)

    def action_down(self) -> None:
        self.query_one("#help").scroll_down(animate=False)

    def action_up(self) -> None:
        self.query_one("#help").scroll_up(animate=False)


class ConfirmScreen(ModalScreen[bool]):
    """A question; y or Enter says yes, n or Esc no.

    Args:
        question: what is asked.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        yield Static(f"{self.question}\n\ny yes   n no", id="confirm", markup=False)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
