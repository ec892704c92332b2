"""Compares runs: scores before and after with their intervals, cost, promotions."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import summary_at


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def execute(options: argparse.Namespace) -> int:
    found = {str(path): summary_at(path) for path in options.runs}
    if options.json:
        output.data(
            [
                {
                    "path": path,
                    "run": summary.run,
                    "status": summary.status,
                    "arm": summary.arm,
                    "seed": summary.seed,
                    "cycles": summary.cycles,
                    "seconds": summary.seconds,
                    "score": summary.score,
                    "tokens": summary.tokens,
                    "promotions": summary.promotions,
                }
                for path, summary in found.items()
            ]
        )
    else:
        from moevolve.report import terminal

        console = terminal.console()
        console.print(terminal.comparison(found, width=console.width))
    return 0
