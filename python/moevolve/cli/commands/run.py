"""Starts a run and follows it to its end."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

from moevolve.cli.driving import display_argument, to_its_end
from moevolve.cli.output import say
from moevolve.config import ARMS, Config, parse_settings


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", default="quickstart", metavar="PRESET|FILE.toml", help="default: quickstart"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME-SEED-N)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the one number that every draw comes from")
    parser.add_argument(
        "--cycles", type=int, metavar="N", help="exactly so many cycles, without a time limit"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="a time limit instead of a number of cycles"
    )
    parser.add_argument("--arm", metavar="ARM", help=f"which parts of the loop are on: {', '.join(ARMS)}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key, such as gate.alpha=0.05",
    )
    display_argument(parser)


def execute(options: argparse.Namespace) -> int:
    config = Config.load(options.source, parse_settings(options.set)).override(
        seed=options.seed, cycles=options.cycles, minutes=options.minutes, arm=options.arm
    )
    out: Path = options.out or vacant(Path("runs"), f"{config.name}-{config.seed}")
    if options.display != "json":
        say(
            f"Run in {out}: seed {config.seed}, arm {config.arm}, {_length(config)}. "
            f"Watch it: moevolve watch {out}"
        )

    from moevolve.evolve import run

    return to_its_end(lambda event, state: run.start(config, out, event, state), out, options.display)


def vacant(root: Path, name: str) -> Path:
    """The first of NAME-1, NAME-2, ... that does not exist under `root`."""
    return next(path for number in count(1) if not (path := root / f"{name}-{number}").exists())


def _length(config: Config) -> str:
    cycles = f"{config.cycles} cycle{'s' * (config.cycles != 1)}" if config.cycles is not None else ""
    minutes = f"at most {config.minutes:g} minutes" if config.minutes is not None else ""
    return ", ".join(part for part in (cycles, minutes) if part)
