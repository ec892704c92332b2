"""ShinkaEvolve's wrapper: it runs a program's function a number of times, validates the results and saves two files.

Every run is made, one after the other, whatever is said about stopping early and about workers: that changes the time it
takes, not what is measured.
"""

from __future__ import annotations

import importlib.util
import json
import math
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Metrics = dict[str, Any]


def load_program(program_path: str) -> Any:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("program", program_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{program_path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    spec.loader.exec_module(module)
    return module


def save_json_results(results_dir: str, metrics: Metrics, correct: bool, error: str | None = None) -> None:
    """Writes `metrics.json` and `correct.json`."""
    Path(results_dir).mkdir(parents=True, exist_ok=True)
    for name, value in (("correct", {"correct": correct, "error": error}), ("metrics", metrics)):
        Path(results_dir, f"{name}.json").write_text(
            json.dumps(value, indent=4, default=_plain), encoding="utf-8"
        )


def run_shinka_eval(
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Callable[[int], dict[str, Any]] | None = None,
    aggregate_metrics_fn: Callable[[list[Any]], Metrics] | None = None,
    validate_fn: Callable[[Any], tuple[bool, str | None]] | None = None,
    plotting_fn: Callable[[Any], list[Any]] | None = None,
    default_metrics_on_error: Metrics | None = None,
    **economies: Any,
) -> tuple[Metrics, bool, str | None]:
    """(metrics, correct, first error) of a program, saved in `results_dir`.

    Args:
        economies: early stopping, workers and verbosity, which change no result.
    """
    results: list[Any] = []
    seconds: list[float] = []
    problems: list[str] = []
    error: str | None = None
    try:
        function = getattr(load_program(program_path), experiment_fn_name)
        for index in range(num_runs):
            arguments = {"seed": index + 1} if get_experiment_kwargs is None else get_experiment_kwargs(index)
            began = time.perf_counter()
            result = function(**arguments)
            seconds.append(time.perf_counter() - began)
            valid, why = (True, None) if validate_fn is None else validate_fn(result)
            if valid:
                results.append(result)
            else:
                problems.append(why or "Validation failed")
        told = len(results) or not problems
        metrics = (
            dict(aggregate_metrics_fn(results))
            if aggregate_metrics_fn and told
            else _on_error(default_metrics_on_error)
        )
    except MemoryError:
        raise
    except Exception as raised:  # noqa: BLE001  a program that raises is incorrect
        error = f"{type(raised).__name__}: {raised}"
        metrics = _on_error(default_metrics_on_error)
    error = error or (problems[0] if problems else None)
    extra = metrics.pop("extra_data", None)
    score = metrics.get("combined_score")
    if error is None and isinstance(score, (int, float)) and not math.isfinite(score):
        error = f"combined_score is {score}"
    metrics |= {
        "execution_time_mean": sum(seconds) / len(seconds) if seconds else 0.0,
        "execution_time_std": _deviation(seconds),
        "num_valid_runs": len(results),
        "num_invalid_runs": len(problems),
        "all_validation_errors": list(dict.fromkeys(problems)),
    }
    save_json_results(results_dir, metrics, error is None, error)
    if extra is not None:
        Path(results_dir, "extra.pkl").write_bytes(pickle.dumps(extra))
    return metrics, error is None, error


def _on_error(given: Metrics | None) -> Metrics:
    return dict(given) if given is not None else {"combined_score": 0.0}


def _deviation(values: list[float]) -> float:
    if not values:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def _plain(value: Any) -> Any:
    for name in ("tolist", "item"):
        if callable(method := getattr(value, name, None)):
            return method()
    return str(value)
