"""Shows runs on live screens; leaving them leaves the runs alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="run folders, or folders of runs (default: all under runs, the newest one first)",
    )
    parser.add_argument("--wait", action="store_true", help="wait for a folder that does not exist yet")


def execute(options: argparse.Namespace) -> int:
    try:
        from moevolve_tui.main import main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("moevolve_tui", "textual"):
            raise
        raise UsageError(
            "the live screen is a package of its own, and it is not installed: pip install moevolve-tui"
        ) from None
    return int(main(options.run or None, wait=options.wait))
