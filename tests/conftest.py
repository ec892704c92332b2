"""What a test defines is nobody else's: skills of Python files are forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moevolve.tasks import registry


@pytest.fixture(autouse=True)
def own_skills() -> Iterator[None]:
    before = {skill.path for skill in registry.registered()}
    yield
    for skill in registry.registered():
        if skill.path not in before:
            registry.forget(skill.path)
