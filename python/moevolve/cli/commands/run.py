"""Starts a run and follows it to its end."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path
from typing import Any

from moevolve.cli.driving import display_argument, to_its_end
from moevolve.cli.output import say
from moevolve.config import ARMS, Config, parse_settings
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        metavar="PRESET|FILE.toml",
        help="default: quickstart, or `endpoint` with --endpoint",
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
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="let an OpenAI-compatible server answer, such as http://127.0.0.1:8000/v1",
    )
    parser.add_argument("--model", metavar="NAME", help="with --endpoint: the server's name of the model")
    parser.add_argument(
        "--key-env", metavar="VAR", help="with --endpoint: the environment variable that holds its key"
    )
    parser.add_argument(
        "--price", metavar="FILE", help="with --endpoint: TOML file of prices, for the account"
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
    config = Config.load(
        options.source or ("endpoint" if options.endpoint else "quickstart"),
        endpoint_settings(options) | parse_settings(options.set),
    ).override(seed=options.seed, cycles=options.cycles, minutes=options.minutes, arm=options.arm)
    if config.policy.endpoint is not None:
        config = _told(config)
    out: Path = options.out or vacant(Path("runs"), f"{config.name}-{config.seed}")
    if options.display != "json":
        say(
            f"Run in {out}: seed {config.seed}, arm {config.arm}, {_length(config)}. "
            f"Watch it: moevolve watch {out}"
        )

    from moevolve.evolve import run

    return to_its_end(lambda event, state: run.start(config, out, event, state), out, options.display)


def endpoint_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the options about a server set.

    Raises:
        UsageError: one of them without `--endpoint`.
    """
    given = {
        "policy.endpoint": options.endpoint,
        "policy.model": options.model,
        "policy.key_env": options.key_env,
        "endpoint.prices": str(Path(options.price).resolve()) if options.price else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if given and options.endpoint is None:
        raise UsageError("--model, --key-env and --price say more about an --endpoint: name its address too")
    return given


def _told(config: Config) -> Config:
    """Says what a run on a server will be and may cost; returns its configuration as it goes on record."""
    from moevolve.evolve.endpoint import settled
    from moevolve.evolve.estimate import estimate
    from moevolve.report.sentences import amount

    asked, config = config, settled(config)
    say(f"{config.policy.model} at {config.policy.endpoint} answers; its weights stay as they are.")
    if asked.arm != config.arm:
        say(f"Without weights to train, arm {asked.arm} is arm {config.arm}: the program evolves alone.")
    expected = estimate(config)
    least, most = expected.requests
    cost = ""
    if expected.cost is not None:
        cost = f", {expected.cost[0]:.2f} to {expected.cost[1]:.2f} {expected.currency}"
    say(
        f"A cycle asks {amount(least)} to {amount(most)} requests of about {expected.tokens} tokens{cost} while "
        f"the program asks once a task; the score before and after takes {amount(expected.evaluation)} each."
    )
    if config.endpoint.most_tokens is None and config.endpoint.most_cost is None:
        say("No spending limit is set: endpoint.most_tokens or endpoint.most_cost sets one.")
    return config


def vacant(root: Path, name: str) -> Path:
    """The first of NAME-1, NAME-2, ... that does not exist under `root`."""
    return next(path for number in count(1) if not (path := root / f"{name}-{number}").exists())


def _length(config: Config) -> str:
    cycles = f"{config.cycles} cycle{'s' * (config.cycles != 1)}" if config.cycles is not None else ""
    minutes = f"at most {config.minutes:g} minutes" if config.minutes is not None else ""
    return ", ".join(part for part in (cycles, minutes) if part)
