"""Suites as commands name them: one that ships, a folder, or a Python file."""

from __future__ import annotations

from pathlib import Path

from moevolve.tasks import folder
from moevolve.tasks.suite import Suite, shipped, suite


def named(name: str) -> Suite:
    """The suite called `name`, or at the path `name`.

    Raises:
        UsageError: there is none.
    """
    return suite(name) if shipped(name) else folder.load(Path(name))
