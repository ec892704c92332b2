"""Suites of installed packages: entry points of the group `moevolve.suites`, by name.

An entry point names a module, or a package with a folder's files (`support = "acme.suites.support"`), or an object in one: a
path, or a function that returns one (`support = "acme.suites:folder"`). A module is found and not imported: the suite is its
files, and a run keeps a copy of them.
"""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from moevolve.errors import UsageError

GROUP = "moevolve.suites"


def installed() -> list[str]:
    """Names of the suites that installed packages offer."""
    return sorted({each.name for each in entry_points(group=GROUP)})


def located(name: str) -> Path | None:
    """Where the suite of an installed package lies; None where no package offers one of this name.

    Raises:
        UsageError: two packages offer the name, or what it leads to is no file or folder.
    """
    found = list(dict.fromkeys(entry_points(group=GROUP, name=name)))
    if not found:
        return None
    if len({each.value for each in found}) > 1:
        values = ", ".join(sorted({each.value for each in found}))
        raise UsageError(f"two installed packages offer a suite {name!r}: {values}; give the path of one")
    path = _path(found[0])
    if path is None or not path.exists():
        raise UsageError(
            f"the suite {name!r} of an installed package, {found[0].value}, leads to no file or folder"
        )
    return path


def _path(entry: EntryPoint) -> Path | None:
    try:
        if entry.attr:
            value = entry.load()
            value = value() if callable(value) else value
            return Path(value) if isinstance(value, (str, os.PathLike)) else None
        spec = find_spec(entry.module)
    except Exception as error:
        raise UsageError(
            f"the suite {entry.name!r} of an installed package cannot be found: {error}"
        ) from error
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
