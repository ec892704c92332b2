"""gepa's contracts: an adapter with examples, and an evaluator of one candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.loop import run as runs
from moevolve.loop.optimise import run as optimisation
from moevolve.loop.optimise.settings import settings
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.inside.contracts import LONGEST_ARTIFACT
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess

LIMITS = EvaluatorLimits(seconds=10, memory_mb=512)
ADAPTER = """
from dataclasses import dataclass

seed_candidate = {"system": "Answer shortly.", "rules": "limit = 3\\nword = 'no'"}
valset = [{"text": "yes or no", "want": 5}, {"text": "no", "want": 5}]


@dataclass
class Batch:
    outputs: list
    scores: list
    trajectories: list
    objective_scores: list


class Adapter:
    propose_new_texts = None

    def evaluate(self, batch, candidate, capture_traces=False):
        space = {}
        exec(candidate["rules"], space)
        scores = [1 / (1 + abs(each["want"] - space["limit"])) for each in batch]
        return Batch(scores, scores, batch, [{"words": len(candidate["system"].split())} for _ in batch])

    def make_reflective_dataset(self, candidate, batch, components):
        return {name: [{"Inputs": each, "Feedback": "too small"} for each in batch.trajectories] for name in components}


adapter = Adapter()
"""
EVALUATOR = """
seed_candidate = "3"
dataset = [5, 7]


def evaluator(candidate, example):
    return -abs(float(candidate) - example), {"scores": {"near": 1.0}, "log": f"want {example}"}
"""


def written(path: Path, text: str) -> Path:
    (path / "problem.py").write_text(text)
    return path / "problem.py"


def test_an_adapters_texts_scores_and_feedback(tmp_path: Path) -> None:
    with EvaluatorProcess(folders.gepa(written(tmp_path, ADAPTER)), LIMITS) as process:
        process.start()
        first = process.initial
        assert first == "=== system ===\nAnswer shortly.\n=== rules ===\nlimit = 3\nword = 'no'\n"
        found = process.evaluate(first)
        assert found.score == pytest.approx(1 / 3) and found.metrics["words"] == 2
        assert "too small" in found.artifacts["rules"]
        assert process.evaluate(first.replace("limit = 3", "limit = 5")).score == 1.0
        lost = process.evaluate("=== rules ===\nlimit = 3")
        assert lost.failure == "error" and "'system' is missing" in lost.detail
        twice = process.evaluate(first + "=== rules ===\n")
        assert twice.failure == "error" and "twice" in twice.detail


def test_an_evaluator_and_its_side_information(tmp_path: Path) -> None:
    with EvaluatorProcess(folders.gepa(written(tmp_path, EVALUATOR)), LIMITS) as process:
        found = process.evaluate("6")
        assert found.score == -1.0 and found.metrics["near"] == 1.0
        assert found.artifacts["example 1"] == '{"log": "want 7"}'
        assert process.evaluate("six").failure == "error"


@pytest.mark.parametrize(
    "signature",
    [
        "candidate, example",
        "candidate, task",
        "candidate, /, example",
        "candidate, *, example",
        "candidate, example, opt_state",
        "candidate, opt_state, example",
        "candidate, example=None, *, opt_state",
        "candidate, **more",
    ],
)
def test_evaluators_get_what_their_signature_names(tmp_path: Path, signature: str) -> None:
    """gepa passes the example and its state by name, as far as an evaluator takes them."""
    text = (
        f"seed_candidate = '3'\ndataset = [5, 7]\ndef evaluator({signature}):\n"
        "    given = dict(locals())\n    given |= given.pop('more', {})\n"
        "    assert given.get('opt_state') is None or given['opt_state'].best_example_evals == []\n"
        "    return float(given['task' if 'task' in given else 'example'])\n"
    )
    with EvaluatorProcess(folders.gepa(written(tmp_path, text)), LIMITS) as process:
        found = process.evaluate("3")
    assert found.score == 6.0, found


@pytest.mark.parametrize("signature", ["candidate", "candidate, opt_state", "candidate, example=None"])
def test_without_a_dataset_there_is_no_example(tmp_path: Path, signature: str) -> None:
    text = f"seed_candidate = '3'\ndef evaluator({signature}):\n    return float(candidate)\n"
    with EvaluatorProcess(folders.gepa(written(tmp_path, text)), LIMITS) as process:
        assert process.evaluate("3").score == 3.0


def test_side_information_is_cut(tmp_path: Path) -> None:
    text = "seed_candidate = '3'\ndef evaluator(candidate):\n    return 1.0, {'log': 'x' * 10**6}\n"
    with EvaluatorProcess(folders.gepa(written(tmp_path, text)), LIMITS) as process:
        found = process.evaluate("3")
    assert found.score == 1.0 and len(found.artifacts["side_info"]) == LONGEST_ARTIFACT


def test_a_run_on_a_gepa_file(tmp_path: Path) -> None:
    path = tmp_path / "here"
    path.mkdir()
    folder = folders.gepa(written(path, ADAPTER))
    out = optimisation.start(folder, settings(folder, {"evaluations": 40}), tmp_path / "out", workers=2)
    assert "limit = " in (out / "program" / folders.CANDIDATE).read_text()
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "no seed_candidate"),
        ("seed_candidate = 'a'\n", "neither an adapter nor an evaluator"),
        ("seed_candidate = 'a'\nclass A:\n    def evaluate(self): pass\nadapter = A()\n", "needs a valset"),
    ],
)
def test_what_a_file_lacks_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        EvaluatorProcess(folders.gepa(written(tmp_path, text)), LIMITS).start()
