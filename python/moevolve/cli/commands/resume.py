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
    from moevolve.cli.reading import followed
    from moevolve.loop import run

    path: Path = options.run
    with followed(path) as (reader, before):
        past = reader.view
    if before.status == "finished":
        say(f"{path} has finished: there is nothing to resume.")
    elif options.display != "json":
        say(f"Going on with {path} after {before.cycles} finished cycles.")
    return to_its_end(lambda event, state: run.resume(path, event, state), path, options.display, past)
