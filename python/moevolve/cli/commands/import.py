"""Puts a program from elsewhere among a run's next candidates: it is checked, screened and gated like any other."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli.asking import run_argument, told
from moevolve.cli.reading import followed


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument(
        "agent",
        type=Path,
        metavar="AGENT",
        help="a folder with the program, such as one that `moevolve export --program` wrote",
    )


def execute(options: argparse.Namespace) -> int:
    from moevolve.loop.importing import put_forward

    with followed(options.run) as (reader, _):
        view, alive = reader.view, reader.alive
    told(options.run, put_forward(options.run, options.agent), "import", view, alive=alive)
    return 0
