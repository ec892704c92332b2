"""Does a run again in a folder of its own and compares the two journals."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from moevolve.cli import output
from moevolve.cli.driving import display_argument, drive
from moevolve.cli.reading import summary_at
from moevolve.errors import DivergedError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="do it in this folder and leave it there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    display_argument(parser)


def execute(options: argparse.Namespace) -> int:
    from moevolve.loop import run

    summary = summary_at(options.run)
    heads: list[str] = []

    def again(scratch: Path) -> None:
        def work(event: object, state: object) -> None:
            heads.extend(run.replay(options.run, scratch, event, state))  # type: ignore[arg-type]

        drive(work, "none" if options.json and options.display == "json" else options.display)

    output.say(
        f"Doing {options.run} again: {summary.cycles} cycles, about {summary.seconds:.0f} s the first time."
    )
    difference: str | None = None
    try:
        if options.keep:
            again(options.keep)
        else:
            with TemporaryDirectory(prefix="moevolve-replay-") as folder:
                again(Path(folder) / "run")
    except DivergedError as error:
        difference = str(error)
    recorded, replayed = heads or (summary.journal.head, None)
    equal = recorded == replayed
    if not equal and difference is None:
        difference = "the journals have different lengths"
    if options.json:
        output.data({"recorded": recorded, "replayed": replayed, "equal": equal, "difference": difference})
    else:
        print(f"recorded  {recorded}\nreplayed  {replayed or '-'}")
        print("the same head" if equal else f"NOT the same: {difference}")
    return 0 if equal else 1
