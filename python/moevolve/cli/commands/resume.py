"""Goes on with a run that was interrupted, to the end it would have had, or beyond it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from moevolve.cli.driving import display_argument, to_its_end
from moevolve.cli.output import say


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--cycles",
        type=_more(int),
        metavar="+N",
        help="make the run N cycles longer, also one that has finished; without --minutes no clock ends it",
    )
    parser.add_argument(
        "--minutes",
        type=_more(float),
        metavar="+M",
        help="give the run M more minutes from now on; without --cycles their number does not end it",
    )
    display_argument(parser)


def _more(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Reads `+N`."""

    def read(text: str) -> float:
        if not text.startswith("+"):
            raise argparse.ArgumentTypeError(f"it says how many more: write +{text.lstrip('+-')}")
        try:
            return kind(text[1:])
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None

    return read


def execute(options: argparse.Namespace) -> int:
    from moevolve.cli.reading import store_at
    from moevolve.journal.reader import read
    from moevolve.loop import limits, run

    more = None
    if options.cycles is not None or options.minutes is not None:
        more = limits.Extension(cycles=options.cycles, minutes=options.minutes)
    path: Path = options.run
    with store_at(path) as store:
        reader = read(store) if len(store) else None
        longer = more is not None or bool(limits.asked(store))
    if reader is None:
        say(f"{path} holds no record yet: its run starts from the beginning.")
    elif reader.view.finished and longer:
        say(f"Going beyond the end of {path}, after {reader.view.cycles} cycles.")
    elif reader.view.finished:
        say(f"{path} has finished: there is nothing to resume. `--cycles +N` goes on beyond its end.")
    elif options.display != "json":
        say(f"Going on with {path} after {reader.view.cycles} finished cycles.")
    past = None if reader is None else reader.view
    return to_its_end(
        lambda event, state: run.resume(path, event, state, more=more), path, options.display, past
    )
