"""What a person asks of a run from the screens: the same requests as the commands leave, and processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from moevolve.journal.control import Inbox, Request
from moevolve.records import Command
from moevolve_tui.model import RunModel

COMMAND = (sys.executable, "-m", "moevolve.cli.main")
LAST_WORDS = 4096
"""Bytes of what a command says that its last line is looked for in."""


class Refused(Exception):
    """What is asked cannot be asked of the run as it stands; the message says why."""


def allowed(model: RunModel, command: Command, variant: str = "") -> None:
    """Sees that a request makes sense.

    Raises:
        Refused: it does not.
    """
    if model.status == "deleted" or model.folder is None:
        raise Refused("There is no folder to ask anything of")
    if model.view.finished:
        raise Refused("The run has finished: nothing can be asked of it any more")
    if command == "pause" and not model.alive:
        raise Refused(f"Nobody runs it, it is {model.status}: resume it instead")
    if command in ("approve", "reject") and variant not in model.view.waiting:
        raise Refused(
            "No variant waits for approval" if not variant else f"{variant} does not wait for approval"
        )


def ask(model: RunModel, command: Command, variant: str = "") -> int:
    """Leaves a request in the run's folder; returns its number.

    Raises:
        Refused: it makes no sense now, or the folder cannot be written.
    """
    allowed(model, command, variant)
    try:
        return Inbox(model.path).put(Request(command=command, variant=variant), model.view.requests)
    except OSError as error:
        raise Refused(f"The request could not be left: {error}") from error


class Begun:
    """A command of Moevolve that outlives the screens.

    Args:
        arguments: the command's.
        where: the folder in which it runs.

    Raises:
        Refused: it cannot be started.
    """

    def __init__(self, arguments: Sequence[str], where: Path) -> None:
        import subprocess
        import tempfile

        self._said = tempfile.TemporaryFile()  # noqa: SIM115  the process keeps it
        try:
            self._process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            self._said.close()
            raise Refused(f"It could not be started: {error}") from error

    def wait(self) -> None:
        """Waits until it has ended."""
        self._process.wait()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def fault(self) -> str:
        """The last line that it said before it failed; empty where it did not."""
        if not self.over or self._process.returncode == 0:
            return ""
        descriptor = self._said.fileno()
        start = max(0, os.fstat(descriptor).st_size - LAST_WORDS)
        words = os.pread(descriptor, LAST_WORDS, start).decode("utf-8", "replace").strip().splitlines()
        return words[-1] if words else f"it ended with {self._process.returncode} and said nothing"
