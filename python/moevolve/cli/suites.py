"""Suites as commands name them: one that ships, a folder, a Python file, or one of an installed package."""

from __future__ import annotations

from pathlib import Path

from moevolve.tasks import folder
from moevolve.tasks.installed import located
from moevolve.tasks.suite import Suite, shipped, suite


def named(name: str) -> Suite:
    """The suite called `name`, or at the path `name`; where both are there, the path.

    Raises:
        UsageError: there is none.
    """
    if shipped(name):
        return suite(name)
    path = Path(name)
    return folder.load(path if path.exists() else located(name) or path)
