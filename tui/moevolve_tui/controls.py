"""What a person asks of a run from the screens: the same requests as the commands leave, and processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from moevolve.journal.control import Inbox, Request
from moevolve.records import Command
from moevolve_tui.model import RunModel

COMMAND = (sys.executable, "-m", "moevolve.cli.main")


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


def begin(arguments: Sequence[str], where: Path) -> None:
    """Starts a command of Moevolve that outlives the screens, in the folder `where`.

    Raises:
        Refused: it cannot be started.
    """
    import subprocess

    try:
        subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise Refused(f"It could not be started: {error}") from error
