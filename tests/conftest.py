"""What a test or a module defines is nobody else's: skills of Python files are forgotten. No test is timed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from moevolve.tasks import registry

# No test stops the machine: what it commits, and what the commands that it types commit, need not wait for the disk.
os.environ.setdefault("MOEVOLVE_SYNC", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also tests that take longer than ten seconds")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "long: takes longer than ten seconds; left out where nobody names tests"
    )
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if named or config.option.keyword or config.option.markexpr:
        config.option.long = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.long:
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
    items[:] = [item for item in items if not item.get_closest_marker("long")]


# A busy machine makes an example late, never wrong.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


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
