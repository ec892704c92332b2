"""Servers on a port of their own, in a thread of this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from serving import Serving, chat_seed  # noqa: E402

from moevolve.models.engine import Engine  # noqa: E402


@pytest.fixture
def serving() -> Iterator[Callable[..., Serving]]:
    """Starts servers; options are those of `Serving`. Each ends with the test."""
    started: list[Serving] = []

    def start(*values: Any, **options: Any) -> Serving:
        started.append(Serving(*values, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def seed_model(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The shipped seed checkpoint with a chat template."""
    return chat_seed(tmp_path_factory.mktemp("model"))
