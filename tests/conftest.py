"""What a test or a module defines is nobody else's: skills of Python files are forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moevolve.tasks import registry


def _forgetting() -> Iterator[None]:
    before = {skill.path for skill in registry.registered()}
    yield
    for skill in registry.registered():
        if skill.path not in before:
            registry.forget(skill.path)


@pytest.fixture(autouse=True, scope="module")
def own_skills_of_the_module() -> Iterator[None]:
    """Set up before the module's own fixtures, which run suites as well."""
    yield from _forgetting()


@pytest.fixture(autouse=True)
def own_skills() -> Iterator[None]:
    yield from _forgetting()
