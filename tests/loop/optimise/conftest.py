"""A folder with two numbers to find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from optimising import EVALUATOR, PROBLEM  # noqa: E402


@pytest.fixture
def problem(tmp_path: Path) -> Callable[..., EvaluatorFolder]:
    """A folder with two numbers to find."""

    def made(evaluator: str = EVALUATOR, program: str = PROBLEM) -> EvaluatorFolder:
        path = tmp_path / "problem"
        path.mkdir(exist_ok=True)
        (path / "initial_program.py").write_text(program)
        (path / "evaluator.py").write_text(evaluator)
        return folders.openevolve(path)

    return made
