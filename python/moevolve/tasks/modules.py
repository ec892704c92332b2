"""Modules of a user's own: run as modules of their names, with what stands beside them to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from moevolve.errors import UsageError
from moevolve.journal.text import line as one_line

_beside: dict[str, dict[str, ModuleType]] = {}
"""Folder -> modules that were imported from it."""


def folders() -> list[str]:
    """Where modules of a user's own came from in this process."""
    return list(_beside)


@contextmanager
def beside(folder: str) -> Iterator[None]:
    """What stands in a folder can be imported meanwhile, and is nobody else's afterwards."""
    own = _beside.setdefault(folder, {})
    others = {name: sys.modules[name] for name in own if name in sys.modules}
    sys.modules.update(own)
    sys.path.insert(0, folder)
    newest = next(reversed(sys.modules))
    try:
        yield
    finally:
        sys.path.remove(folder)
        # What has been imported meanwhile stands behind. In a fork a look at every module copies a page for each.
        behind = [*takewhile(lambda name: name != newest, reversed(sys.modules))]
        for name in dict.fromkeys([*own, *behind]):
            if (getattr(sys.modules.get(name), "__file__", None) or "").startswith(f"{folder}/"):
                own[name] = sys.modules.pop(name)
        sys.modules.update(others)


def defined(file: Path) -> dict[str, Any]:
    """What a file defines, as a module of its name: annotations are looked up where their classes say they come from."""
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    held = sys.modules.setdefault(file.stem, module)
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except BaseException:
        if held is module:
            del sys.modules[file.stem]
        raise
    return vars(module)


def imported(file: Path) -> dict[str, Any]:
    """What a file defines, with what stands beside it.

    Raises:
        UsageError: it is no plain file, or cannot be imported; says why.
    """
    if not file.is_file():
        raise UsageError(f"{file}: is not a plain file")
    folder = file.parent.resolve()
    _beside.pop(str(folder), None)  # What stands there may have changed.
    try:
        with beside(str(folder)), redirect_stdout(sys.stderr):
            return defined(folder / file.name)
    except (Exception, SystemExit) as error:  # a user's own code: whatever it raises is said with its place
        raise UsageError(
            f"{file} cannot be imported: {one_line(f'{type(error).__name__}: {error}')}"
        ) from error
