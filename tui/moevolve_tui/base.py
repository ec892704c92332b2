"""What the parts of the application share: the pane that has the focus, a word to the user, a line that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App
from textual.widgets import Input

from moevolve_tui.widgets.pane import Pane

if TYPE_CHECKING:
    from moevolve_tui.app import WatchApp


class Base(App[str]):
    """The application as its parts see it."""

    _prompting = ""
    """What the line at the bottom asks for."""

    def _app(self) -> WatchApp:
        return self  # type: ignore[return-value]

    @property
    def _pane(self) -> Pane:
        return self._app().chosen_pane

    def _say(self, words: str, *, bad: bool = False) -> None:
        # The newest word alone: older ones would cover what it is about.
        self._app().clear_notifications()
        self._app().notify(words, severity="error" if bad else "information", markup=False)

    def _prompt(self, what: str, words: str) -> None:
        """Asks for a line at the bottom."""
        app = self._app()
        prompt = app.query_one("#prompt", Input)
        self._prompting = what
        prompt.placeholder, prompt.value, prompt.display = words, "", True
        prompt.focus()
