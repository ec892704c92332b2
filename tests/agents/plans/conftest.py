"""The builder that programs import, as the sandbox has it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def plan() -> ModuleType:
    """The module `plan` of the sandbox."""
    return sys.modules["plan"]
