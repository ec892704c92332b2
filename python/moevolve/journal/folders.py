"""A folder that somebody gives as a suite or an agent: what belongs to it."""

from __future__ import annotations

from pathlib import Path


def paths_in(folder: Path) -> list[Path]:
    """What lies in a folder at any depth, in order of the names, without what is hidden, Python's caches and runs.

    A run may lie in the folder that it works on, as by default where one stands in that: its records are no part of it.
    """
    runs = {data.parents[1] for data in folder.rglob("journal/data.mdb")} - {folder}
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
        and runs.isdisjoint((path, *path.parents))
    )
