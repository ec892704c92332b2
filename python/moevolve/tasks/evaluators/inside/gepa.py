"""gepa's two contracts in the process of one evaluation: an adapter with examples, or an evaluator of `optimize_anything`.

A candidate is one text, or named texts that stand one after the other in the program's file, each below a line with its
name.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any

from moevolve.tasks.evaluators.inside.contracts import LONGEST_ARTIFACT, Unusable, openevolve_reply

HEAD = "=== {} ==="
TRACES = 4
"""Records of a component's reflective dataset that are kept."""


def written(candidate: str | Mapping[str, str]) -> str:
    """A candidate as a program's text."""
    if isinstance(candidate, str):
        return candidate
    return "".join(f"{HEAD.format(name)}\n{text}\n" for name, text in candidate.items())


def read(text: str, seed: str | Mapping[str, str]) -> str | dict[str, str]:
    """The candidate that a program's text is.

    Raises:
        Unusable: a name of the first candidate is missing, or stands there twice.
    """
    if isinstance(seed, str):
        return text
    heads = {HEAD.format(name): name for name in seed}
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.split("\n"):
        if line in heads:
            name = heads[line]
            if name in found:
                raise Unusable("error", f"the text {name!r} stands there twice")
            found[name] = []
        elif name:
            found[name].append(line)
    if missing := [each for each in seed if each not in found]:
        raise Unusable(
            "error", f"the text {missing[0]!r} is missing: its line is {HEAD.format(missing[0])!r}"
        )
    return {name: "\n".join(lines).removesuffix("\n") for name, lines in found.items()}


def initial(module: types.ModuleType) -> str:
    """The first candidate's text.

    Raises:
        Unusable: the file lacks a name that the contract needs.
    """
    seed = getattr(module, "seed_candidate", None)
    if not isinstance(seed, str) and not (isinstance(seed, dict) and seed):
        raise Unusable("error", "the file defines no seed_candidate: a text, or a dict of texts")
    if callable(getattr(getattr(module, "adapter", None), "evaluate", None)):
        if not _examples(module):
            raise Unusable("error", "an adapter needs a valset or a trainset with examples")
    elif not callable(getattr(module, "evaluator", None)):
        raise Unusable("error", "the file defines neither an adapter nor an evaluator(candidate)")
    return written(seed)


def evaluate(module: types.ModuleType, text: str) -> dict[str, Any]:
    """The reply on a program's text: the mean score over all examples."""
    candidate = read(text, module.seed_candidate)
    adapter = getattr(module, "adapter", None)
    if callable(getattr(adapter, "evaluate", None)):
        return _adapted(adapter, _examples(module), candidate)
    return _evaluated(module.evaluator, _examples(module), candidate)


def _examples(module: types.ModuleType) -> list[Any]:
    for name in ("valset", "dataset", "trainset"):
        if (examples := getattr(module, name, None)) is not None:
            return list(examples)
    return []


def _adapted(adapter: Any, examples: list[Any], candidate: Any) -> dict[str, Any]:
    batch = adapter.evaluate(examples, candidate, capture_traces=True)
    scores = list(batch.scores)
    if len(scores) != len(examples):
        raise Unusable("wrong_type", f"the adapter gave {len(scores)} scores for {len(examples)} examples")
    metrics: dict[str, Any] = {"combined_score": _mean(scores)}
    for objective in getattr(batch, "objective_scores", None) or []:
        for name in objective:
            metrics[name] = _mean([each[name] for each in batch.objective_scores if name in each])
    told: dict[str, str] = {}
    if getattr(batch, "trajectories", None) is not None and callable(
        getattr(adapter, "make_reflective_dataset", None)
    ):
        components = list(candidate) if isinstance(candidate, dict) else []
        for name, records in adapter.make_reflective_dataset(candidate, batch, components).items():
            told[str(name)] = json.dumps(list(records)[:TRACES], default=str)[:LONGEST_ARTIFACT]
    return openevolve_reply(metrics, told)


def _evaluated(evaluator: Any, examples: list[Any], candidate: Any) -> dict[str, Any]:
    by_name, by_place = _arguments(evaluator)
    takes_example = bool(examples) and (by_place or "example" in by_name)
    state = {"opt_state": _State()} if "opt_state" in by_name else {}
    scores: list[Any] = []
    metrics: dict[str, list[Any]] = {}
    told: dict[str, str] = {}
    for number, example in enumerate(examples if takes_example else [None]):
        given = state | ({"example": example} if takes_example and not by_place else {})
        found = evaluator(candidate, *([example] if takes_example and by_place else []), **given)
        score, side = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        scores.append(score)
        for name, value in (side.get("scores") or {}).items() if isinstance(side, dict) else []:
            metrics.setdefault(name, []).append(value)
        if isinstance(side, dict):
            rest = {name: value for name, value in side.items() if name != "scores"}
            if rest and number < TRACES:
                place = f"example {number}" if takes_example else "side_info"
                told[place] = json.dumps(rest, default=str)[:LONGEST_ARTIFACT]
    means = {name: _mean(values) for name, values in metrics.items()}
    return openevolve_reply({**means, "combined_score": _mean(scores)}, told)


class _State:
    """What gepa's `OptimizationState` says at first: no program was evaluated before."""

    def __init__(self) -> None:
        self.best_example_evals: list[dict[str, Any]] = []


def _arguments(evaluator: Any) -> tuple[set[str], bool]:
    """What an evaluator takes beside the candidate: by gepa's names, and whether the example by its place under another."""
    rest = list(inspect.signature(evaluator).parameters.values())[1:]
    by_name = {each.name for each in rest if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if any(each.kind is each.VAR_KEYWORD for each in rest):
        by_name |= {"example", "opt_state"}
    places = [each.name for each in rest if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return by_name, "example" not in by_name and bool(places) and places[0] != "opt_state"


def _mean(scores: Sequence[Any]) -> float:
    """Raises Unusable where a score is no number."""
    for score in scores:
        if isinstance(score, (str, bytes)) or not hasattr(score, "__float__"):
            raise Unusable("wrong_type", f"a score is {type(score).__name__}, not a number")
    return sum(map(float, scores)) / len(scores) if scores else 0.0
