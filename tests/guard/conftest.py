"""Two variants that guards look at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moevolve.journal.archive import Variant

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from watched_run import variant  # noqa: E402


@pytest.fixture
def champion() -> Variant:
    return variant("v0000")


@pytest.fixture
def candidate() -> Variant:
    return variant("v0001")
