"""Moevolve: models that evolve their weights and the program around them, behind a sealed grader.

The names below load on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
"""For type checkers true; an evaluator's process, which is forked again and again, does without `typing`."""

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "Engine",
    "Environment",
    "Example",
    "Replayed",
    "Rollout",
    "Run",
    "Sampling",
    "Task",
    "Verdict",
    "audit",
    "evolve",
    "import_skills",
    "replay",
    "resume",
    "skill",
    "suite",
]

_HOMES = {
    "Completion": "moevolve.protocol.completion",
    "Engine": "moevolve.models.engine",
    "Environment": "moevolve.tasks.environment",
    "Example": "moevolve.protocol.training",
    "Replayed": "moevolve.api",
    "Rollout": "moevolve.protocol.training",
    "Run": "moevolve.api",
    "Sampling": "moevolve.protocol.sampling",
    "Task": "moevolve.tasks.task",
    "Verdict": "moevolve.tasks.task",
    "audit": "moevolve.api",
    "evolve": "moevolve.api",
    "import_skills": "moevolve.api",
    "replay": "moevolve.api",
    "resume": "moevolve.api",
    "skill": "moevolve.tasks.suite",
    "suite": "moevolve.tasks.suite",
}

if TYPE_CHECKING:
    from typing import Any

    from moevolve.api import Replayed, Run, audit, evolve, import_skills, replay, resume
    from moevolve.models.engine import Engine
    from moevolve.protocol.completion import Completion
    from moevolve.protocol.sampling import Sampling
    from moevolve.protocol.training import Example, Rollout
    from moevolve.tasks.environment import Environment
    from moevolve.tasks.suite import skill, suite
    from moevolve.tasks.task import Task, Verdict


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moevolve' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
