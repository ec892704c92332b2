"""The ways in: `moevolve watch`, `moevolve-tui`, `python -m moevolve_tui`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from moevolve.errors import MoevolveError


def main(path: Path | Sequence[Path] | None = None, *, runs: Path = Path("runs"), wait: bool = False) -> int:
    """Shows runs until the user leaves.

    Args:
        path: a run's folder, a folder of runs, or several of either; None for the runs under `runs`.
        runs: where runs are looked for when `path` is None.
        wait: also waits for a folder that does not exist yet, and ends with the process that started this one: a run opens
            its screens so.

    Returns:
        The exit code: 0 after leaving, 2 when there is nothing to watch or no terminal to show it on.
    """
    from moevolve_tui.terminal import on_terminal

    if not on_terminal() or os.environ.get("TERM", "") in ("", "dumb"):
        print(
            "moevolve watch draws on a terminal, and this is none; "
            "`moevolve show DIR` and `moevolve report DIR` print the same run",
            file=sys.stderr,
        )
        return 2
    # The store is a native library; the import waits until there is a terminal to use it for.
    from moevolve_tui.attach import session_of

    paths = [] if path is None else [path] if isinstance(path, Path) else list(path)
    try:
        session = session_of(paths, runs, wait=wait)
    except MoevolveError as error:
        print(f"moevolve watch: {error}", file=sys.stderr)
        return 2
    from moevolve_tui import saved
    from moevolve_tui.app import WatchApp
    from moevolve_tui.terminal import driver, end_with_parent, few_colours, hung_up

    # A switch of threads comes soon enough for keys while a long journal is read.
    sys.setswitchinterval(0.002)
    app = WatchApp(session, settings=saved.default_path())
    if (plain := driver()) is not None:
        app.driver_class = plain
    app.hung_up = hung_up
    if wait:
        end_with_parent()
    if few_colours():
        app.forced_theme = "ansi-dark"
    fault = app.run()
    session.close()
    if fault:
        print(f"moevolve watch: {fault}", file=sys.stderr)
    return app.return_code or 0
