"""Asking something of a run that may be going on: what `approve`, `reject`, `pause` and `stop` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli.output import say
from moevolve.cli.reading import followed
from moevolve.config.files import typed
from moevolve.errors import UsageError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.store import RunStore
from moevolve.journal.text import line
from moevolve.journal.view import RunView
from moevolve.records import Command, Entry


def run_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the run's folder."""
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")


def variant_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the variant that a decision is about."""
    parser.add_argument("variant", metavar="ID", help="a variant that waits, such as v0011")


def ask(run: Path, command: Command, variant: str = "") -> int:
    """Leaves a request with a run; returns the command's exit code.

    Raises:
        UsageError: there is no such run, it has finished, the variant does not wait, or nobody runs what is to be paused.
    """
    with followed(run) as (reader, summary):
        view, alive = reader.view, reader.alive
    if view.finished:
        raise UsageError(f"{run} has finished: nothing can be asked of it any more")
    if variant and variant not in view.waiting:
        waiting = f"{', '.join(map(line, view.waiting))} does" if view.waiting else "no variant does"
        raise UsageError(f"{line(variant)} does not wait for approval in {run}: {waiting}")
    if command == "pause" and not alive:
        raise UsageError(
            f"nobody runs {run}, it is {summary.status}: `moevolve resume {typed(run)}` goes on with it"
        )
    number = Inbox(run).put(Request(command=command, variant=variant), view.requests)
    told(run, number, f"{command} {variant}".strip(), view, alive=alive)
    return 0


def told(run: Path, number: int, what: str, view: RunView, *, alive: bool) -> None:
    """Says when a request that was left with a run is taken up."""
    when = (
        "the run takes it up between two stages" if alive else f"`moevolve resume {typed(run)}` takes it up"
    )
    if view.finished:
        when = f"`moevolve resume {typed(run)} --cycles +1` takes it up"
    say(f"Request {number}, {what}: {when}.")


def taken_back(run: Path, change: str, entry: Entry | None) -> str:
    """What became of a request to take back a change, in a sentence.

    Args:
        run: the run's folder.
        change: its name.
        entry: the record of it, where the run has ended.
    """
    if entry is not None:
        return f"{line(change)} is rolled back, and whatever was built on it; on record as entry {entry.seq}."
    with RunStore.open(run) as store:
        alive = store.writer_alive()
    when = (
        "the run takes it up between two stages" if alive else f"`moevolve resume {typed(run)}` takes it up"
    )
    return f"Asked to roll back {line(change)}: {when}."
