"""The builder that programs import, as the sandbox has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import moevolve


@pytest.fixture(scope="session")
def plan() -> ModuleType:
    """The module `plan` of the sandbox."""
    path = Path(moevolve.__file__).parent / "agents/inside/plan.py"
    spec = importlib.util.spec_from_file_location("plan", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
