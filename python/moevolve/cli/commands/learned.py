"""What `moevolve serve --learn` keeps in a folder, and what became of it: lists it, erases it, goes back to an earlier
champion. While a server holds the folder, ask its endpoints to change something: `docs/serve.md` lists them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moevolve.cli import output
from moevolve.config.files import typed
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what --learn was given")
    parser.add_argument("--client", metavar="NAME", help="this client's interactions only")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--interactions", action="store_true", help="list interactions, with feedback, as JSON lines"
    )
    what.add_argument(
        "--erase", nargs="+", metavar="ID", help="erase these interactions, and what was said of them"
    )
    what.add_argument("--erase-all", action="store_true", help="erase all of them, or all of --client")
    what.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="VARIANT",
        help="make an earlier champion the champion again (default: the one before)",
    )


def execute(options: argparse.Namespace) -> int:
    from moevolve._native import RunStore as Native
    from moevolve.journal.store import RunStore
    from moevolve.serve.deployed import FOLDER, Deployed
    from moevolve.serve.interactions import Interactions
    from moevolve.serve.learning import erase

    path = options.folder / FOLDER
    if not Native.is_run(path):
        raise UsageError(
            f"nothing was learned in {options.folder}: `moevolve serve --learn {typed(options.folder)}` begins"
        )
    changes = options.erase is not None or options.erase_all or options.rollback is not None
    with RunStore.open(path, write=changes) as store:
        kept = Interactions(store)
        if options.interactions:
            for row in kept.all(options.client):
                output.line({**_plain(row), "feedback": [_plain(said) for said in kept.feedback(row.id)]})
            return 0
        deployed = Deployed(store, 0)
        if options.rollback is not None:
            champion = deployed.roll_back(options.rollback or None)
            output.say(f"{champion.variant} is the champion again")
        elif changes:
            gone = erase(deployed, kept, options.erase, options.client)
            output.say(f"{gone} interactions erased, and what was said of them")
        champion = deployed.champion()
        output.data(
            {
                "champion": champion.variant,
                "weights": champion.weights,
                "champions": deployed.history(),
                "cycles": deployed.cycles,
                "interactions": len(kept),
                "feedback": len(kept.feedback()),
                "head": store.head(),
            }
        )
    return 0


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
