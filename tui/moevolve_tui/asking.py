"""What is asked of a run, or started beside it: each after a question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moevolve.journal.text import line
from moevolve.records import Command
from moevolve_tui import controls
from moevolve_tui.base import Base
from moevolve_tui.pages.page import empty
from moevolve_tui.targets import VariantTarget

LOOK_SECONDS, LOOKS = 0.5, 40
"""Between two looks at a command that was started, and how many there are: one that fails does so at its beginning."""


class Asking(Base):
    """The actions that reach a run."""

    def _confirm(self, question: str, act: Callable[[], str]) -> None:
        def answered(yes: bool | None) -> None:
            if not yes:
                return
            try:
                self._say(act())
            except controls.Refused as error:
                self._say(str(error), bad=True)

        from moevolve_tui.dialogs import ConfirmScreen

        self._app().push_screen(ConfirmScreen(question), answered)

    def _ask(self, command: Command, question: str, variant: str = "") -> None:
        model = self._app().session.current
        if model is None:
            return
        try:
            controls.allowed(model, command, variant)
        except controls.Refused as error:
            self._say(str(error), bad=True)
            return
        when = "the run takes it up between two stages" if model.alive else "`moevolve resume` takes it up"
        self._confirm(question, lambda: f"Request {controls.ask(model, command, variant)}, {command}: {when}")

    def action_pause(self) -> None:
        model = self._app().session.current
        if model is None:
            return
        if model.status in ("paused", "stopped", "failed") and not model.alive:
            path = model.path.absolute()
            self._confirm(
                f"Resume {model.name}?",
                lambda: self._begun(["resume", str(path), "--display", "none"], path.parent, "It goes on"),
            )
        else:
            self._ask("pause", f"Pause {model.name} after this cycle?")

    def _begun(self, arguments: list[str], where: Path, words: str) -> str:
        """Starts a command; should it fail soon, its reason takes the place of the words."""
        begun = controls.Begun(arguments, where)

        def look(left: int) -> None:
            if fault := begun.fault():
                self._say(line(fault), bad=True)
            elif not begun.over and left:
                self.set_timer(LOOK_SECONDS, lambda: look(left - 1))

        self.set_timer(LOOK_SECONDS, lambda: look(LOOKS))
        return words

    def action_stop(self) -> None:
        model = self._app().session.current
        if model is not None:
            self._ask("stop", f"Stop {model.name} for good, after a last score?")

    def action_approve(self) -> None:
        self._decide("approve")

    def action_reject(self) -> None:
        self._decide("reject")

    def _decide(self, command: Command) -> None:
        model = self._app().session.current
        if model is None:
            return
        waiting = list(model.view.waiting)
        target = self._pane.page.target(self._pane.cursor)
        name = (
            target.name
            if isinstance(target, VariantTarget) and target.name in waiting
            else (waiting[0] if waiting else "")
        )
        self._ask(command, f"{command.capitalize()} {line(name)}?", name)

    def action_new_run(self) -> None:
        """A quickstart: in the empty folder that is looked at, or else under the folder whose runs are shown."""
        model = self._app().session.current
        arguments = ["run", "quickstart", "--display", "none"]
        if model is not None and empty(model):
            here = model.path.absolute()
            where, arguments = here.parent, [*arguments, "--out", str(here)]
        else:
            root = next(iter(self._app().session.roots), Path("runs")).absolute()
            where = root.parent if root.name == "runs" else root
            here = where / "runs"
        self._confirm(
            f"Start a quickstart in {line(str(here))}? It takes some minutes of this machine.",
            lambda: self._begun(arguments, where, "It starts; it is shown as soon as it is there"),
        )

    def action_report(self) -> None:
        model = self._app().session.current
        if model is not None:
            path = model.path.absolute()
            page = line(f"{path}/report.html")
            self._confirm(
                f"Write {page}?", lambda: self._begun(["report", str(path)], path.parent, f"Writing {page}")
            )

    def action_serve(self) -> None:
        model = self._app().session.current
        if model is None:
            return
        if model.optimises:
            self._say(f"Nothing to serve: the best program lies in {line(str(model.path / 'program'))}")
        else:
            self._say(f"In another terminal: moevolve serve {line(str(model.path))}")
