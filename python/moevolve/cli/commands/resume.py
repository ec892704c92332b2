"""Goes on with a run that was interrupted, to the end it would have had."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli.driving import display_argument, to_its_end
from moevolve.cli.output import say


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    display_argument(parser)


def execute(options: argparse.Namespace) -> int:
    from moevolve.cli.reading import store_at
    from moevolve.journal.reader import read
    from moevolve.loop import run

    path: Path = options.run
    with store_at(path) as store:
        reader = read(store) if len(store) else None
    if reader is None:
        say(f"{path} holds no record yet: its run starts from the beginning.")
    elif reader.status == "finished":
        say(f"{path} has finished: there is nothing to resume.")
    elif options.display != "json":
        say(f"Going on with {path} after {reader.view.cycles} finished cycles.")
    past = None if reader is None else reader.view
    return to_its_end(lambda event, state: run.resume(path, event, state), path, options.display, past)
