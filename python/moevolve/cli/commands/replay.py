"""Does a run again in a folder of its own and compares the two journals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moevolve.cli import output
from moevolve.cli.driving import display_argument, drive
from moevolve.cli.reading import summary_at

if TYPE_CHECKING:
    from moevolve.agents.box.records import Repeats


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="do it in this folder and leave it there")
    parser.add_argument(
        "--regrade",
        action="store_true",
        help="judge the recorded answers of agents in boxes again, without running the agents",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    display_argument(parser)


def execute(options: argparse.Namespace) -> int:
    from moevolve.agents.box.records import Repeats
    from moevolve.loop import run
    from moevolve.loop.replayed import replayed

    summary = summary_at(options.run)
    output.say(
        f"Doing {options.run} again: {summary.cycles} cycles, about {summary.seconds:.0f} s the first time."
    )

    repeats = Repeats(execute=not options.regrade)

    def again(source: Path, scratch: Path) -> tuple[str, str]:
        heads: list[tuple[str, str]] = []
        drive(
            lambda event, state: heads.append(run.replay(source, scratch, event, state, repeats)),
            "none" if options.json and options.display == "json" else options.display,
        )
        return heads[0]

    found = replayed(options.run, options.keep, again, repeats)
    if options.json:
        output.data(found)
    else:
        print(f"recorded  {found.recorded}\nreplayed  {found.replayed or '-'}")
        if found.repeats is not None:
            print(_said(found.repeats))
        print("the same head" if found.equal else f"NOT the same: {found.difference}")
    return 0 if found.equal else 1


def _said(repeats: Repeats) -> str:
    """What became of attempts in boxes, in words."""
    said = f"attempts  {repeats.executed} re-executed, {repeats.graded} re-graded, drift of {repeats.drift} requests"
    why = "; ".join(f"{count} because {reason}" for reason, count in sorted(repeats.reasons.items()))
    return f"{said} ({why})" if why else said
