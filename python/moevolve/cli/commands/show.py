"""Prints a run's figures: scores before and after, skills, promotions, guards."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import summary_at


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.cli.optimising import shown

    if shown(options.run, as_json=options.json):
        return 0
    summary = summary_at(options.run)
    if options.json:
        output.data(summary)
    else:
        from moevolve.report import terminal

        terminal.console().print(terminal.show(summary))
        from moevolve.loop.estimate import engine as estimates

        if (expected := estimates.load(options.run)) is not None:
            print(f"{expected.sentence()}; took {summary.seconds / 60:.0f} minutes")
    return 0
