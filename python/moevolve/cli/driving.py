"""Drives a run with a display beside it, and ends with its table: what `run` and `resume` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moevolve.cli.display import MODES, display
from moevolve.cli.output import deaf, say
from moevolve.config.files import typed
from moevolve.errors import DivergedError, MoevolveError
from moevolve.journal.view import RunView
from moevolve.records import Entry, State

Drive = Callable[[Callable[[Entry], None], Callable[[State], None]], object]


def display_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--display`."""
    parser.add_argument(
        "--display",
        choices=MODES,
        default="auto",
        help="how progress is shown: the screens of moevolve-tui, one live picture (full), lines, JSON lines on stdout, or "
        "not at all (default: auto, the screens where a terminal allows them)",
    )


def drive(work: Drive, mode: str, past: RunView | None = None, run: Path | None = None) -> None:
    """Does `work` with a display of this mode, which knows the run's folder and what is on record of it already."""
    with display(mode, past, run) as shown:
        heard = True

        def told(show: Callable[[Any], None]) -> Callable[[Any], None]:
            def tell(what: Any) -> None:
                nonlocal heard
                if not heard:
                    return
                try:
                    show(what)
                except BrokenPipeError:
                    # Whoever read has left: the run goes on.
                    heard = False
                    deaf(sys.stdout, sys.stderr)

            return tell

        work(told(shown.event), told(shown.state))


def to_its_end(work: Drive, out: Path, mode: str, past: RunView | None = None) -> int:
    """Drives a run, says which walls its programs lack where that is known before, how to go on if it ends early, and prints
    its table when it has ended well."""
    from moevolve import _native
    from moevolve.agents.process import in_force
    from moevolve.cli.optimising import ending, is_one

    # An evaluator's are others, which its process tells.
    missing = [] if (out / "journal").is_dir() and is_one(out) else in_force().missing
    if missing:
        say(
            f"moevolve: programs run without some layers of the sandbox: {', '.join(missing)}; see `moevolve doctor`"
        )
    if not _native.synced():
        say("moevolve: MOEVOLVE_SYNC=off: records do not wait for the disk, and may be lost with the machine")
    try:
        drive(work, mode, past, out)
    except (KeyboardInterrupt, MoevolveError) as error:
        if _resumable(error) and (out / "journal").is_dir():
            say(f"What was recorded is in {out}; `moevolve resume {typed(out)}` goes on from there.")
        raise
    if is_one(out):
        return ending(out, quiet=mode == "json")
    if mode == "json":
        return 0
    from moevolve.cli.reading import summary_at
    from moevolve.report import terminal

    summary = summary_at(out)
    terminal.console().print(terminal.show(summary))
    if summary.status == "paused":
        for name in summary.waiting:
            say(f"{name} waits for you: `moevolve approve {out} {name}`, or `moevolve reject {out} {name}`.")
        say(f"The run has paused; `moevolve resume {typed(out)}` goes on.")
        return 0
    say(
        f"`moevolve report {typed(out)}` draws the curves; "
        f"`moevolve diff {typed(out)} seed champion` shows how the program changed."
    )
    return 0


def _resumable(error: BaseException) -> bool:
    """Whether going on may help: not after a wrong argument, nor where the journal does not fit."""
    if isinstance(error, MoevolveError):
        return error.exit_code == MoevolveError.exit_code and not isinstance(error, DivergedError)
    return True
