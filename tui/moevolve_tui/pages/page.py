"""A page: rows that a pane shows. Pages know the model and nothing of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeGuard

from moevolve.journal.drawing.lines import Line
from moevolve.journal.text import line
from moevolve_tui.drawing.rows import Row, fit, text, text_of
from moevolve_tui.model import RunModel
from moevolve_tui.session import Session
from moevolve_tui.targets import ActionTarget, Target

if TYPE_CHECKING:
    from moevolve_tui.pages.diff import DiffPage
    from moevolve_tui.pages.log import LogPage
    from moevolve_tui.pages.memory import MemoryPage


class Context:
    """What all pages share: the session, the run that is shown, and how it is shown.

    Args:
        session: the runs.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.log_axis = False
        self.overlay = False
        self.sort = 0
        self.other_diff = False
        """Whether diffs stand in the form that their width does not suggest: side by side where it is narrow, or not where
        it is wide."""
        self.marked: int | None = None
        """Row of the variant that is marked for a comparison."""
        self.cursor_row: int | None = None
        """Row of the variant under the cursor."""
        self.cursor_cycle: int | None = None
        """Cycle at which curves are read off."""
        self.changes = 0
        """Grows whenever one of these does, so that drawings know."""

    @property
    def model(self) -> RunModel | None:
        """The run that is shown: replayed, or the one that is looked at."""
        return self.session.replay or self.session.current

    def touch(self) -> None:
        self.changes += 1


class Page:
    """A list of rows, built when what it shows has changed."""

    NAME: ClassVar[str] = ""
    NUMBER: ClassVar[int | None] = None
    WHOLE: ClassVar[bool] = False
    """Whether it needs a run."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows: list[Row] = []
        self._drawn: tuple[object, ...] | None = None

    def title(self) -> str:
        """The page's name, and what of it is shown."""
        return self.NAME

    def hints(self) -> tuple[str, ...]:
        """What may stand behind the title, the most useful first; only what fits does."""
        return ()

    def heading(self) -> str:
        """The title, harmless."""
        return line(self.title())

    def depends(self) -> tuple[object, ...]:
        """What the rows follow from; they are built again when it changes."""
        model, changes = self.context.model, self.context.changes
        if model is None:
            return (changes,)
        followed = self.follows(model)
        if followed is None:
            return id(model), model.revision, model.state_revision, model.status, changes
        return id(model.view), *followed, changes

    def follows(self, model: RunModel) -> tuple[object, ...] | None:
        """What of the run's view the rows follow from; None: everything that the run says."""
        return None

    def prepare(self, width: int, height: int) -> bool:
        """Brings the rows up to date; returns whether they changed. In the drawing thread's turn."""
        drawn = (*self.depends(), width, height)
        if drawn == self._drawn:
            return False
        self._drawn = drawn
        model = self.context.model
        if model is None and self.NUMBER != 0:
            self.rows = text("No run yet: 0 shows the runs, n there starts a quickstart", width, "quiet")
        elif model is not None and not model.view.entries and self.NUMBER != 0:
            self.rows = waiting(model, width)
        else:
            try:
                built = self.build(width, height)
            except Exception as error:  # noqa: BLE001  what no run writes may be on file: a page says so, and the screens go on
                built = undrawn(error, width)
            self.rows = [Row(fit(harmless(spans), width), target) for spans, target in built]
        return True

    def build(self, width: int, height: int) -> list[Row]:
        """The rows for a pane of this size."""
        raise NotImplementedError

    def count(self) -> int:
        return len(self.rows)

    def line(self, index: int) -> Line:
        return self.rows[index].line

    def target(self, index: int) -> Target | None:
        return self.rows[index].target if 0 <= index < len(self.rows) else None

    def words(self, index: int) -> str:
        """What a search looks at in a row."""
        return text_of(self.line(index))

    def fold(self, index: int, open: bool) -> bool:
        """Opens or closes the branch at a row; returns whether there is one."""
        return False

    @property
    def shown(self) -> RunModel:
        """The run that is shown."""
        model = self.context.model
        assert model is not None, "a page is built for a run"
        return model


def harmless(spans: Line) -> Line:
    """The line, whatever a page forgot to look at: no span of it steers a terminal."""
    return [span if span[0].isprintable() else (line(span[0]), span[1]) for span in spans]


def undrawn(error: Exception, width: int) -> list[Row]:
    """What stands instead of a page that could not be built."""
    words = f"This page cannot be drawn: {type(error).__name__}, {line(str(error)) or 'without a word'}"
    advice = "What is on file does not fit together; `moevolve audit DIR` says where. The run is not touched."
    return [*text(words, width, "bad"), *text(advice, width, "quiet")]


def waiting(model: RunModel, width: int) -> list[Row]:
    """What is said of a run without records."""
    if model.fault:
        return text(model.fault, width, "bad")
    if model.total:
        return text(f"Loading {model.total:,} records", width, "warn")
    rows = text(
        f"Waiting for the first record of {model.name}; it is shown as soon as it is there", width, "quiet"
    )
    if empty(model):
        words = "Nothing is in this folder. Enter here starts the quickstart in it"
        rows += text(words, width, "mark", ActionTarget("new_run", "quickstart"))
    return rows


def empty(model: RunModel) -> bool:
    """Whether the folder of a run that has no record is there, with nothing in it."""
    try:
        return not model.entries and not any(model.path.iterdir())
    except OSError:
        return False


def is_log(page: Page) -> TypeGuard[LogPage]:
    """Whether a page is the log, without taking in its module: a page's is read when it is first shown."""
    return page.NAME == "Log"


def is_memory(page: Page) -> TypeGuard[MemoryPage]:
    """Whether a page is memory's."""
    return page.NAME == "Memory"


def is_diff(page: Page) -> TypeGuard[DiffPage]:
    """Whether a page is a diff."""
    return page.NAME == "Diff"
