"""A run on file as a text cast: the lines that it said, at the times at which it said them (asciicast, version 2)."""

from __future__ import annotations

import json
from pathlib import Path

from moevolve.journal.figures import duration
from moevolve.journal.store import RunStore
from moevolve.journal.view import describe

LONGEST_PAUSE = 1.5
"""Seconds that a player waits for a line at most."""


def cast(run: Path, size: tuple[int, int]) -> str:
    """The cast of a run's records.

    Args:
        run: the run's folder.
        size: columns and rows.
    """
    columns, rows = size
    head = {
        "version": 2,
        "width": columns,
        "height": rows,
        "title": "moevolve run quickstart",
        "idle_time_limit": LONGEST_PAUSE,
    }
    lines = [json.dumps(head)]
    with RunStore.open(run) as store:
        for entry in store.entries(0):
            at = entry.timing.at
            text = f"{duration(at):>7}  {describe(entry.record)[0]}"
            lines.append(json.dumps([round(at, 3), "o", text + "\r\n"]))
    return "\n".join(lines) + "\n"
