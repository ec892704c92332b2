"""A folder of runs, and the command line in it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from command_line import Command, Recorded, call, write_run  # noqa: E402


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Writes a synthetic run under `tmp_path/runs`; options are those of `write_run`."""

    def write(name: str = "first", **options: Any) -> Path:
        return write_run(tmp_path / "runs" / name, **options)

    return write


@pytest.fixture
def moevolve(tmp_path: Path) -> Command:
    """The command in a process of its own, its working folder `tmp_path`."""
    command: partial[subprocess.CompletedProcess[str]] = partial(call, tmp_path)
    return command


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands in for the loop; a test puts `start`, `resume` or `replay` into it."""
    module = ModuleType("moevolve.loop.run")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("moevolve.loop.run", module, raising=False)
    return module
