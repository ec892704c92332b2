"""How evaluators are called and what they say: OpenEvolve's and ShinkaEvolve's contracts, in the process of one evaluation.

What comes of it is a reply: a score or a failure's type, with whatever the evaluator told beside it.
"""

from __future__ import annotations

import io
import json
import math
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LONGEST_DETAIL = 2000
LONGEST_ARTIFACT = 32 << 10
MOST_ENTRIES = 256
"""Metrics, and artifacts, of one evaluation."""
THRESHOLDS = (0.5, 0.75, 0.9)
"""OpenEvolve's, for its second and third stage."""


class Unusable(Exception):
    """What an evaluator returned has no score; its arguments are the failure's type and the detail."""


def load(path: str) -> types.ModuleType:
    """OpenEvolve's evaluator as a module, its folder first among those that modules are imported from."""
    module = types.ModuleType("evaluation_module")
    module.__file__ = path
    sys.modules["evaluation_module"] = module
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


def check_arguments(module: types.ModuleType, settings: Mapping[str, Any]) -> None:
    """Looks whether `evaluate` takes the arguments that the configuration has for it.

    Raises:
        Unusable: it does not.
    """
    arguments = settings.get("arguments")
    if arguments:
        import inspect  # It maps so much that every fork would pay for it.

        try:
            inspect.signature(module.evaluate).bind("", **arguments)
        except TypeError as error:
            raise Unusable("error", f"evaluator.evaluator_args: evaluate(program_path): {error}") from None


def openevolve(module: types.ModuleType, path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The reply of OpenEvolve's contract: stages where there are any, else `evaluate`.

    Args:
        module: the evaluator.
        path: the program's file.
        settings: `cascade`, `thresholds`, `arguments`, `features` (metrics that are no part of a score's mean).
    """
    features = tuple(settings.get("features", ()))
    if not settings.get("cascade", True) or not callable(getattr(module, "evaluate_stage1", None)):
        metrics, artifacts = _result(_called(module.evaluate, path, **settings.get("arguments", {})))
        return _scored(metrics, artifacts, features)
    metrics, artifacts = _result(_called(module.evaluate_stage1, path))
    for stage, threshold in enumerate(settings.get("thresholds", THRESHOLDS)[:2], start=2):
        function = getattr(module, f"evaluate_stage{stage}", None)
        if not callable(function) or not _passes(metrics, threshold):
            break
        try:
            more, said = _result(_called(function, path))
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stage that raises ends the cascade
            metrics[f"stage{stage}_passed"] = 0.0
            artifacts[f"stage{stage}_error"] = str(error.args[-1]) if isinstance(error, Unusable) else trace()
            break
        # From here on an error of an earlier stage, and whatever is no number, is forgotten.
        metrics = {
            key: value
            for key, value in [*metrics.items(), *more.items()]
            if key == "timeout" or (key != "error" and _number(value) is not None)
        }
        artifacts |= said
    return _scored(metrics, artifacts, features)


def shinka(path: str, program: str, results: str, arguments: list[str]) -> dict[str, Any]:
    """The reply of ShinkaEvolve's contract: the file as a command that writes `metrics.json` and `correct.json`."""
    import runpy  # This contract's evaluators alone need it.

    sys.argv = [path, "--program_path", program, "--results_dir", results, *arguments]
    raised = ""
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit:
        pass  # Its status means nothing in this contract.
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  files it wrote before it raised count
        raised = trace()
    metrics, problem = _file(results, "metrics.json")
    correct, _ = _file(results, "correct.json")
    if not metrics:
        if problem == "missing" and raised:
            return reply(failure="error", detail=raised)
        return reply(failure="no_score", detail=f"metrics.json is {problem or 'empty'}\n{raised}".strip())
    public, private = (metrics.get(part) for part in ("public", "private"))
    shown = {**(private if isinstance(private, dict) else {}), **(public if isinstance(public, dict) else {})}
    feedback = metrics.get("text_feedback") or ""
    artifacts = {
        "text_feedback": _text("\n".join(map(str, feedback)) if isinstance(feedback, list) else feedback)
    }
    found = _combined(
        metrics.get("combined_score"),
        _plain({**shown, "combined_score": metrics.get("combined_score")}),
        artifacts,
    )
    if found["failure"] is None and correct.get("correct") is not True:
        return {
            **found,
            "score": None,
            "failure": "incorrect",
            "detail": str(correct.get("error") or "")[:LONGEST_DETAIL],
        }
    return found


def openevolve_reply(metrics: dict[str, Any], artifacts: dict[str, str]) -> dict[str, Any]:
    """The reply of metrics and artifacts by OpenEvolve's rule."""
    return _scored(metrics, artifacts, ())


def reply(
    score: float | None = None,
    failure: str | None = None,
    detail: str = "",
    metrics: dict[str, Any] | None = None,
    artifacts: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A reply in plain values."""
    return {
        "score": score,
        "failure": failure,
        "detail": detail[-LONGEST_DETAIL:],
        "metrics": metrics or {},
        "artifacts": artifacts or {},
    }


def safely(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The reply of a call that may raise anything."""
    try:
        return call()
    except Unusable as error:
        return reply(failure=error.args[0], detail=error.args[1])
    except MemoryError:
        return reply(failure="memory", detail="MemoryError: more than the limit was asked for")
    except BaseException:  # noqa: BLE001  whatever an evaluator raises is a verdict, a cancelled task too
        return reply(failure="error", detail=trace())


_display = sys.__excepthook__
"""Says an exception without the module `traceback`, which maps so much that every fork would pay for it."""


def trace() -> str:
    """The newest exception's traceback, of which the end says most."""
    heard = io.StringIO()
    kept, sys.stderr = sys.stderr, heard
    try:
        _display(*sys.exc_info())
    finally:
        sys.stderr = kept
    return heard.getvalue()[-LONGEST_DETAIL:].strip()


def _called(function: Callable[..., Any], path: str, **arguments: Any) -> Any:
    found = function(path, **arguments)
    if not hasattr(found, "__await__"):
        return found
    import asyncio  # It maps so much that every fork would cost three times as much.

    return asyncio.run(_awaited(found))


async def _awaited(found: Any) -> Any:
    return await found


def _result(found: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """(metrics, artifacts) of what an evaluator returned."""
    artifacts: Any = None
    metrics: Any = found
    if not isinstance(found, dict) and isinstance(getattr(found, "metrics", None), dict):
        metrics, artifacts = found.metrics, getattr(found, "artifacts", None)
    elif isinstance(found, dict) and isinstance(found.get("metrics"), dict) and "combined_score" not in found:
        metrics, artifacts = found["metrics"], found.get("artifacts")
    elif isinstance(found, dict) and isinstance(found.get("artifacts"), dict):
        metrics = {key: value for key, value in found.items() if key != "artifacts"}
        artifacts = found["artifacts"]
    if not isinstance(metrics, dict):
        raise Unusable("wrong_type", f"the evaluator returned {type(found).__name__}, not a dict of metrics")
    told = {str(key): _text(value) for key, value in list((artifacts or {}).items())[:MOST_ENTRIES]}
    return {str(key): value for key, value in metrics.items()}, told


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return (value if isinstance(value, str) else str(value))[:LONGEST_ARTIFACT]


def _number(value: Any) -> float | None:
    """A metric as a number; None for a text, a list, nothing."""
    if isinstance(value, (str, bytes, bytearray)) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _fitness(metrics: Mapping[str, Any], features: tuple[str, ...]) -> float | None:
    """The mean of all numbers and truths but features, of features where there is nothing else."""
    numbers = {key: number for key, value in metrics.items() if (number := _number(value)) is not None}
    numbers = {key: number for key, number in numbers.items() if not math.isnan(number)}
    kept = [number for key, number in numbers.items() if key not in features] or list(numbers.values())
    return _mean(kept)


def _passes(metrics: Mapping[str, Any], threshold: float) -> bool:
    """Whether a stage's combined score reaches a threshold, else the mean of all its numbers but `error`."""
    score = metrics.get("combined_score")
    if not isinstance(score, (int, float)):
        numbers = [_number(value) for key, value in metrics.items() if key != "error"]
        score = _mean([number for number in numbers if number is not None])
    return score is not None and score >= threshold


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _scored(metrics: dict[str, Any], artifacts: dict[str, str], features: tuple[str, ...]) -> dict[str, Any]:
    plain = _plain(metrics)
    error = metrics.get("error")
    if metrics.get("timeout") is True:
        return reply(None, "timeout", "the evaluator's own time limit ended the program", plain, artifacts)
    if isinstance(error, str) and error.strip():
        return reply(None, "error", error, plain, artifacts)
    if "combined_score" in metrics:
        return _combined(metrics["combined_score"], plain, artifacts)
    if set(metrics) == {"error"}:
        return reply(None, "error", "the evaluator returned nothing but an error", plain, artifacts)
    score = _fitness(metrics, features)
    if score is None:
        detail = "no combined_score, and no metric that is a number"
        wrong = any(isinstance(value, str) for value in metrics.values())
        return reply(None, "wrong_type" if wrong else "no_score", detail, plain, artifacts)
    return _combined(score, plain, artifacts)


def _combined(value: Any, plain: dict[str, Any], artifacts: dict[str, str]) -> dict[str, Any]:
    """The reply with a combined score, whatever it is."""
    score = _number(value)
    if score is None:
        kind, shown = type(value).__name__, _text(repr(value))[:100]
        return reply(None, "wrong_type", f"combined_score is {kind} {shown}, not a number", plain, artifacts)
    if math.isnan(score):
        return reply(None, "not_a_number", "the score is NaN", plain, artifacts)
    if math.isinf(score):
        return reply(None, "infinite", f"the score is {score}", plain, artifacts)
    return reply(score, None, "", plain, artifacts)


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as finite numbers, truths and texts."""
    found: dict[str, Any] = {}
    for key, value in list(metrics.items())[:MOST_ENTRIES]:
        number = _number(value)
        if isinstance(value, bool):
            found[key] = value
        elif number is not None and math.isfinite(number):
            found[key] = number
        elif value is not None:
            found[key] = _text(value)[:LONGEST_DETAIL]
    return found


def _file(folder: str, name: str) -> tuple[dict[str, Any], str]:
    """(content, problem) of a results file."""
    try:
        with open(f"{folder}/{name}", "rb") as file:
            found = json.loads(file.read())
    except FileNotFoundError:
        return {}, "missing"
    except (OSError, ValueError) as error:
        return {}, f"unreadable: {error}"
    return (found, "") if isinstance(found, dict) else ({}, "no object")
