"""Settings, configurations and folders that no run can be made of, refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from optimising import started

from moevolve.errors import ConfigError, UsageError
from moevolve.gate.spending import AlphaSpending
from moevolve.loop.optimise import rule
from moevolve.loop.optimise.settings import settings
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder


def test_an_error_budget_that_no_test_can_meet_is_refused(problem: Callable[..., EvaluatorFolder]) -> None:
    folder = problem()
    for fresh in (4, rule.MOST):
        with pytest.raises(ConfigError, match=r"alpha=1e-06: no test can promote"):
            settings(folder, {"fresh": fresh, "alpha": 1e-6})
    with pytest.raises(ConfigError, match="fresh"):
        settings(folder, {"fresh": rule.MOST + 1})


def test_few_scores_are_as_many_as_the_first_test_takes(problem: Callable[..., EvaluatorFolder]) -> None:
    """A test takes more of them by itself where its level asks for more."""
    chosen = settings(problem(), {"fresh": 4, "alpha": 0.05})
    level = AlphaSpending(alpha=chosen.alpha).level
    assert chosen.fresh == 4 < rule.size(level, chosen.fresh) and not rule.exhausted(level)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("limits.seconds", value) for value in (float("nan"), float("inf"), 0, -1, 1e300)),
        *((f"limits.{name}", -5) for name in ("memory_mb", "processes", "output_kb", "disk_mb")),
        *((f"limits.{name}", 0) for name in ("memory_mb", "processes", "output_kb", "disk_mb")),
        *(("seed", value) for value in (1 << 64, -(1 << 64), 1e300)),
        *(("evaluations", value) for value in (0, 10**30, 1e300)),
        ("population", 1),
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(
    problem: Callable[..., EvaluatorFolder], key: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=key.rpartition(".")[2]):
        settings(problem(), {key: value})


@pytest.mark.parametrize(
    "text",
    [
        "random_seed: 18446744073709551616",
        "random_seed: 1.0e+300",
        "evaluator: {timeout: 1.0e+300}",
        "evaluator: {timeout: .nan}",
        "max_iterations: 1.0e+300",
        "max_iterations: 0",
    ],
)
def test_so_are_a_configurations(problem: Callable[..., EvaluatorFolder], text: str) -> None:
    path = problem().path
    (path / "config.yaml").write_text(text)
    with pytest.raises(UsageError):
        settings(folders.openevolve(path), {})


def test_a_run_without_a_worker_is_refused(problem: Callable[..., EvaluatorFolder], tmp_path: Path) -> None:
    for workers in (0, -1):
        with pytest.raises(UsageError, match="evaluate nothing"):
            started(problem(), tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    folder = problem("import no_such_module\ndef evaluate(path): return {}\n")
    with pytest.raises(UsageError, match="no_such_module"):
        started(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="evaluation"):
        settings(folder, {"evaluation": 3})
    with pytest.raises(UsageError, match="no selection policy"):
        settings(folder, {"selection": "luck"})
