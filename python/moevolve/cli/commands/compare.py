"""Compares runs: scores before and after with their intervals, cost, promotions."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import summary_at
from moevolve.journal.store import is_run


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument(
        "--arms", action="store_true", help="one line an arm: means over its seeds with 95 %% intervals"
    )


def execute(options: argparse.Namespace) -> int:
    # A shell's `runs/*` names what lies beside the runs as well, such as their memory.
    others = [path for path in options.runs if path.exists() and not is_run(path)]
    if len(others) < len(options.runs):
        for path in others:
            output.say(f"{path} holds no run: left out")
    else:
        others = []
    found = {str(path): summary_at(path) for path in options.runs if path not in others}
    if options.arms:
        from moevolve.report.arms import arms

        found_arms = arms(found.values())
        if options.json:
            output.data(found_arms)
        else:
            from moevolve.report import beside, terminal

            terminal.console().print(beside.over_seeds(found_arms))
            if (columns := beside.generalised(found_arms)) is not None:
                terminal.console().print(columns)
        return 0
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
        from moevolve.report import beside, terminal

        console = terminal.console()
        console.print(beside.comparison(found, width=console.width))
    return 0
