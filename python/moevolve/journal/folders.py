"""A folder that somebody gives as a suite or an agent: what belongs to it."""

from __future__ import annotations

from pathlib import Path


def paths_in(folder: Path, *, hidden: str | None = None) -> list[Path]:
    """What lies in a folder at any depth, in order of the names, without what is hidden, Python's caches and runs.

    A run may lie in the folder that it works on, as by default where one stands in that: its records are no part of it.

    Args:
        folder: the folder.
        hidden: what lies in the folder of this name belongs to it hidden or not; `.` is the folder itself.
    """
    runs = {data.parents[1] for data in folder.rglob("journal/data.mdb")} - {folder}
    return sorted(
        path
        for path in folder.rglob("*")
        if not _left_out(path.relative_to(folder).parts, hidden) and runs.isdisjoint((path, *path.parents))
    )


def _left_out(parts: tuple[str, ...], hidden: str | None) -> bool:
    whole = hidden == "." or (hidden is not None and parts[0] == hidden)
    return any(part == "__pycache__" or (part.startswith(".") and not whole) for part in parts)
