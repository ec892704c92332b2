"""Optimisation runs from the command line: their start, their end, and their figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moevolve.cli.output import data, say
from moevolve.config import parse_settings
from moevolve.config.files import typed
from moevolve.errors import MoevolveError, UsageError

if TYPE_CHECKING:
    from moevolve.loop.optimise.settings import Settings

OTHERS = ("source", "cycles", "minutes", "agent", "suite", "arm", "device")
"""Options of `run` that mean nothing where an evaluator scores."""
MOST_FAILED = 0.5
"""Share of failed evaluations above which a run's exit status says so."""


def optimise(options: argparse.Namespace) -> int:
    """Starts an optimisation run and follows it to its end.

    Raises:
        UsageError: options that do not go together, or a folder or setting that cannot be used.
    """
    from moevolve.cli.driving import drive
    from moevolve.loop.optimise import run
    from moevolve.loop.optimise.settings import settings
    from moevolve.tasks.evaluators import folder as folders

    kinds = {"--openevolve": options.openevolve, "--shinka": options.shinka, "--gepa": options.gepa}
    given_kinds = [name for name, value in kinds.items() if value is not None]
    if len(given_kinds) > 1:
        raise UsageError(f"{' and '.join(given_kinds)} exclude each other: an evaluator is of one kind")
    for name in OTHERS:
        if getattr(options, name) is not None:
            shown = "a preset" if name == "source" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{shown} does not go with an evaluator's folder")
    path: Path = options.openevolve or options.shinka or options.gepa
    config: Path | None = options.evaluator_config
    if options.gepa is not None:
        if config is not None:
            raise UsageError("--evaluator-config does not go with --gepa: its file says everything")
        folder = folders.gepa(path)
    else:
        folder = (folders.openevolve if options.openevolve else folders.shinka)(path, config)
    if config is not None and config.resolve().parent != folder.path:
        raise UsageError(
            f"{config} does not lie in {path}: a run keeps a copy of the folder and of nothing else"
        )
    given = {
        "seed": options.seed,
        "evaluations": options.evaluations,
        "proposers": options.proposer,
        "configuration": config.name if config else None,
        **_model(options),
        **parse_settings(options.set),
    }
    chosen = settings(folder, given)
    out: Path = options.out or _vacant(Path("runs"), f"{folder.name}-{chosen.seed}")
    if options.display != "json":
        say(
            f"Run in {out}: {folder.name}, {chosen.evaluations} evaluations of at most {chosen.limits.seconds:g} s, "
            f"seed {chosen.seed}, proposers {', '.join(chosen.proposers)}."
        )
        say(_nulls(chosen))
        if folder.without_effect:
            say(f"Known to {folder.contract}, and without effect here: {', '.join(folder.without_effect)}.")
    try:
        drive(
            lambda event, state: run.start(folder, chosen, out, event, state, workers=options.workers),
            options.display,
        )
    except (KeyboardInterrupt, MoevolveError) as error:
        if (out / "journal").is_dir() and not isinstance(error, UsageError):
            say(f"What was recorded is in {out}; `moevolve resume {typed(out)}` goes on from there.")
        raise
    return ending(out, quiet=options.display == "json")


def _nulls(chosen: Settings) -> str:
    """Whether nulls of the search run, and what they take."""
    server = (
        ", the server asked and paid for each of them, within its limits"
        if chosen.proposer.endpoint is not None
        else ""
    )
    if chosen.nulls == "off":
        return (
            "Nulls are off: with --set nulls=on two runs without the search follow it, best-of-N and random search, of as "
            f"many evaluations each{server}."
        )
    return f"Two nulls follow it, best-of-N and random search: {chosen.evaluations} more evaluations each{server}."


def _model(options: argparse.Namespace) -> dict[str, object]:
    """What the options about a server say: its model writes programs."""
    if options.endpoint is None:
        for name in ("model", "key_env", "price"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} needs --endpoint URL: a server's model writes programs"
                )
        return {}
    prices = None if options.price is None else str(Path(options.price).resolve())
    return {
        "proposers": options.proposer or ["model"],
        "proposer.endpoint": options.endpoint,
        "proposer.model": options.model,
        "proposer.key_env": options.key_env,
        "proposer.server.prices": prices,
    }


def ending(out: Path, *, quiet: bool) -> int:
    """Prints the table of a run that has ended; the exit status, 1 where most evaluations failed."""
    from moevolve.cli.reading import followed
    from moevolve.report import optimisation, terminal

    with followed(out) as (reader, summary):
        figures = optimisation.figures(reader, summary)
        assert figures is not None, "an optimisation run has ratings"
    if not quiet:
        terminal.console().print(optimisation.show(figures))
        say(
            f"`moevolve diff {typed(out)} seed champion` shows how the program changed; it lies in {out / 'program'}."
        )
    if figures.failed > MOST_FAILED * figures.evaluations:
        say(
            f"{figures.failed} of {figures.evaluations} evaluations failed: `moevolve show {typed(out)}` counts them by type"
        )
        return 1
    return 0


def shown(path: Path, *, as_json: bool) -> bool:
    """Prints an optimisation run's figures; False where the run is none."""
    from moevolve.cli.reading import followed
    from moevolve.report import optimisation, terminal

    with followed(path) as (reader, summary):
        figures = optimisation.figures(reader, summary)
    if figures is None:
        return False
    if as_json:
        data(figures)
    else:
        terminal.console().print(optimisation.show(figures))
    return True


def is_one(out: Path) -> bool:
    """Whether an optimisation run lies in a folder."""
    from moevolve.journal.store import RunStore
    from moevolve.loop.optimise.run import is_optimisation

    with RunStore.open(out) as store:
        return is_optimisation(store)


def _vacant(root: Path, name: str) -> Path:
    from moevolve.cli.commands.run import vacant

    return vacant(root, name)
