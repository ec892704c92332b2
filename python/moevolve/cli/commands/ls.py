"""Lists the runs in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import RUNS, summary_at
from moevolve.errors import MoevolveError, UsageError
from moevolve.journal.store import list_runs
from moevolve.report.summary import Summary


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", type=Path, metavar="ROOT", help="where to look (default: runs)")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def execute(options: argparse.Namespace) -> int:
    root: Path = options.root or RUNS
    if options.root is not None and not root.is_dir():
        raise UsageError(f"there is no folder {root}")
    found: dict[str, Summary | str] = {}
    for path in sorted(list_runs(root)) if root.is_dir() else []:
        try:
            found[str(path)] = summary_at(path)
        except MoevolveError as error:
            found[str(path)] = str(error)
    if options.json:
        output.data([_row(path, summary) for path, summary in found.items()])
    elif not found:
        output.say(f"No runs in {root}: `moevolve run quickstart` starts one.")
    else:
        from moevolve.report import beside, terminal

        terminal.console().print(beside.listing(found))
    return 0


def _row(path: str, summary: Summary | str) -> dict[str, object]:
    if isinstance(summary, str):
        return {"path": path, "error": summary}
    return {
        "path": path,
        "run": summary.run,
        "status": summary.status,
        "seed": summary.seed,
        "arm": summary.arm,
        "cycles": summary.cycles,
        "seconds": summary.seconds,
        "score": summary.score,
        "dev": summary.dev,
        "entries": summary.journal.entries,
        "head": summary.journal.head,
    }
