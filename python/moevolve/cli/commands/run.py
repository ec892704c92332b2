"""Starts a run and follows it to its end."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path
from typing import Any

from moevolve.cli.driving import display_argument, to_its_end
from moevolve.cli.output import say
from moevolve.config import ARMS, Config, parse_settings, source
from moevolve.config.files import typed
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        metavar="PRESET|FILE.toml",
        help="default: quickstart, `real` with --model, or `endpoint` with --endpoint",
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
    parser.add_argument(
        "--model",
        metavar="PATH|NAME",
        help="a chat model to start from: a folder (Hugging Face layout), a GGUF file, or a run, whose champion's weights "
        "are copied; with --endpoint the server's name of its model",
    )
    parser.add_argument(
        "--device", metavar="D", help="what computes the model: cpu, cuda:N or auto (default: the preset's)"
    )
    parser.add_argument(
        "--key-env", metavar="VAR", help="with --endpoint: the environment variable that holds its key"
    )
    parser.add_argument(
        "--price", metavar="FILE", help="with --endpoint: TOML file of prices, for the account"
    )
    parser.add_argument(
        "--agent",
        metavar="DIR",
        help="what the program starts as: a folder with a solve.py of your own (default: the seed, which asks once)",
    )
    parser.add_argument(
        "--suite",
        metavar="PATH|NAME",
        help="what the run works on: a folder with tasks.jsonl, a Python file that defines skills, or a suite's name "
        "(default: the preset's)",
    )
    parser.add_argument(
        "--openevolve",
        type=Path,
        metavar="DIR",
        help="search programs that an evaluator scores, in a folder of OpenEvolve's kind: initial_program.*, evaluator.py, "
        "config.yaml",
    )
    parser.add_argument(
        "--shinka",
        type=Path,
        metavar="DIR",
        help="the same in a folder of ShinkaEvolve's kind: initial.*, evaluate.py",
    )
    parser.add_argument(
        "--gepa",
        type=Path,
        metavar="FILE.py",
        help="the same by a file with gepa's names: seed_candidate, and adapter with valset, or evaluator",
    )
    parser.add_argument(
        "--evaluations", type=int, metavar="N", help="of an evaluator's folder: how many there are in all"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="of an evaluator's folder: processes that evaluate at the same time; they change the time it takes alone",
    )
    parser.add_argument(
        "--proposer",
        action="append",
        metavar="NAME|FILE.py",
        help="of an evaluator's folder: who writes programs, in turn where there are several: constants, syntax, "
        "crossover, or a file that defines propose(brief, rng)",
    )
    parser.add_argument(
        "--evaluator-config",
        type=Path,
        metavar="FILE",
        help="of an evaluator's folder: its configuration, in it",
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
    if any(each is not None for each in (options.openevolve, options.shinka, options.gepa)):
        from moevolve.cli.optimising import optimise

        return optimise(options)
    for name in ("evaluations", "workers", "proposer", "evaluator_config"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} goes with --openevolve DIR or --shinka DIR")
    from moevolve.gate.finite import reach
    from moevolve.gate.spending import AlphaSpending

    config = Config.load(
        options.source or source.preset_of(options.model, options.endpoint),
        policy_settings(options)
        | own_settings(options)
        | parse_settings(options.set)
        | source.limits(options.cycles, options.minutes),
    ).override(seed=options.seed, cycles=options.cycles, minutes=options.minutes, arm=options.arm)
    if config.policy.endpoint is not None:
        config = _told(config)
    out: Path = options.out or vacant(Path("runs"), f"{config.name}-{config.seed}")
    if options.display != "json":
        say(
            f"Run in {out}: seed {config.seed}, arm {config.arm}, {_length(config)}. "
            f"Watch it: moevolve watch {typed(out)}"
        )
        say(reach(config.gate.max_n, AlphaSpending(alpha=config.gate.alpha).level))

    from moevolve.loop import run

    # The shipped seed's presets are known to fit; of any other model it is told first what it will take.
    told = (lambda expected: say(expected.sentence())) if config.policy.checkpoint else None
    return to_its_end(lambda event, state: run.start(config, out, event, state, told), out, options.display)


def policy_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the options about a model, here or on a server, set; errors as of `source.policy_settings`."""
    return source.policy_settings(
        options.model, options.endpoint, options.key_env, options.price, options.device
    )


def own_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `--suite` and `--agent` set; errors as of `suites.own_settings`."""
    from moevolve.tasks.suite import own_settings as own

    return own(options.suite, options.agent)


def _told(config: Config) -> Config:
    """Says what a run on a server will be and may cost; returns its configuration as it goes on record."""
    from moevolve.journal.figures import amount
    from moevolve.loop.endpoint import settled
    from moevolve.loop.estimate.endpoint import estimate
    from moevolve.loop.resolve import with_files

    asked, config = config, settled(with_files(config))
    say(f"{config.policy.model} at {config.policy.endpoint} answers; its weights stay as they are.")
    if config.policy.key_env is not None and str(config.policy.endpoint).startswith("http:"):
        say("Over http:// the key travels in the clear: that is for this machine and networks of your own.")
    if asked.arm != config.arm:
        say(f"Without weights to train, arm {asked.arm} is arm {config.arm}: the program evolves alone.")
    expected = estimate(config)
    least, most = expected.requests
    cost = ""
    if expected.cost is not None:
        cost = f", {expected.cost[0]:.2f} to {expected.cost[1]:.2f} {expected.currency}"
    say(
        f"A cycle asks {amount(least)} to {amount(most)} requests of about {expected.tokens} tokens{cost} while "
        f"the program asks once a task; the score before cycle 1 starts takes {amount(expected.evaluation)}, and so "
        "does the one after the last."
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
