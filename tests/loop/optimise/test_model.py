"""A language model as proposer of programs, on a server: exchanges and their cost on record, a replay without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from optimising import records  # noqa: E402
from scripted_endpoint import MODEL, ScriptedEndpoint, running  # noqa: E402

from moevolve.auditor import audit  # noqa: E402
from moevolve.errors import ConfigError  # noqa: E402
from moevolve.journal.control import Inbox, Request  # noqa: E402
from moevolve.loop import run as runs  # noqa: E402
from moevolve.loop.optimise import driver  # noqa: E402
from moevolve.loop.optimise import run as optimisation  # noqa: E402
from moevolve.loop.optimise.settings import settings  # noqa: E402
from moevolve.records import Command, Entry, Improved, Metered, Rated, VariantAdded  # noqa: E402
from moevolve.tasks.evaluators import folder as folders  # noqa: E402
from moevolve.tasks.evaluators.folder import EvaluatorFolder  # noqa: E402

EVALUATOR = """
import runpy
def evaluate(path):
    a = runpy.run_path(path)["A"]
    return {"metrics": {"combined_score": 10 - abs(a - 7)}, "artifacts": {"hint": f"{a} is not seven"}}
"""


class Author(ScriptedEndpoint):
    """Answers by a function of the prompt and of how many calls came before."""

    def __init__(self, write: Callable[[str, int], str]) -> None:
        super().__init__()
        self.write = write

    def reply(self, body: dict[str, Any]) -> str:
        return self.write(body["messages"][-1]["content"], len(self.seen))


def counting(prompt: str, calls: int) -> str:
    """Sets the constant to the number of the call, in the form that is asked for."""
    old = next(line for line in prompt.splitlines() if line.startswith("A = "))
    if "SEARCH" in prompt:
        return f"Summary: call {calls}\n<<<<<<< SEARCH\n{old}\n=======\nA = {calls}\n>>>>>>> REPLACE\n"
    return f"Summary: call {calls}\n```python\nA = {calls}\n```\n"


@pytest.fixture
def problem(tmp_path: Path) -> EvaluatorFolder:
    path = tmp_path / "problem"
    path.mkdir()
    (path / "initial_program.py").write_text("A = -1\n")
    (path / "evaluator.py").write_text(EVALUATOR)
    (path / "config.yaml").write_text("prompt: {system_message: Find the number.}\n")
    return folders.openevolve(path)


@pytest.fixture
def author() -> Iterator[Author]:
    with running(Author(counting)) as server:
        yield server


def given(server: Author, **more: Any) -> dict[str, Any]:
    return {
        "evaluations": 14,
        "proposers": ["model"],
        "proposer.endpoint": server.url,
        "proposer.model": MODEL,
        "proposer.server.price_input": 2.0,
        "proposer.server.price_output": 8.0,
        **more,
    }


def test_a_models_programs_are_searched_paid_and_replayed_without_it(
    problem: EvaluatorFolder, author: Author, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    optimisation.start(problem, settings(problem, given(author, evaluations=24)), out, workers=2)
    found = records(out)
    best = [record for record in found if isinstance(record, Improved) and record.decision == "promote"]
    assert best and best[-1].candidate_scores == [10.0]
    bills = [record for record in found if isinstance(record, Metered)]
    asked = (
        len([record for record in found if isinstance(record, Rated) and record.purpose == "candidate"]) - 1
    )
    assert sum(bill.requests for bill in bills) == asked == len(author.seen)
    prompt, completion = author.charged["prompt"], author.charged["completion"]
    assert sum(bill.prompt_tokens for bill in bills) == prompt
    assert sum(float(bill.cost or 0) for bill in bills) == pytest.approx(
        (2 * prompt + 8 * completion) / 10**6
    )
    summaries = {record.summary for record in found if isinstance(record, VariantAdded)}
    assert "call 3" in summaries
    shown = author.seen[-1]["messages"][-1]["content"]
    assert shown.startswith("Find the number.") and "is not seven" in shown
    author.server.shutdown()
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda prompt, calls: "What a wonderful program! It cannot be better.", "no "),
        (
            lambda prompt, calls: "```\nA = (\n```\n<<<<<<< SEARCH\nA = -1\n=======\nA = (\n>>>>>>> REPLACE",
            "SyntaxError",
        ),
        (
            lambda prompt, calls: "```\nA = 5\n```\n<<<<<<< SEARCH\nA = -1\n=======\nA = 5\n>>>>>>> REPLACE",
            "before",
        ),
        (lambda prompt, calls: "<<<<<<< SEARCH\nB = 4\n=======\nA = 5\n>>>>>>> REPLACE", "no fenced block"),
    ],
    ids=["flatters", "does not compile", "repeats itself", "edits another program"],
)
def test_what_is_no_program_costs_its_budget_and_nothing_else(
    problem: EvaluatorFolder, tmp_path: Path, write: Callable[[str, int], str], said: str
) -> None:
    with running(Author(write)) as server:
        optimisation.start(problem, settings(problem, given(server)), tmp_path / "out", workers=1)
        rated = [record for record in records(tmp_path / "out") if isinstance(record, Rated)]
        assert len(rated) == 14 and rated[0].score == 2.0
        assert any(said in record.detail for record in rated if record.failure)
        assert len(server.seen) <= 14
    assert (
        runs.replay(tmp_path / "out", tmp_path / "again")[0]
        == runs.replay(tmp_path / "out", tmp_path / "more")[1]
    )


def test_a_file_and_a_model_by_turns_are_replayed_without_either(
    problem: EvaluatorFolder, author: Author, tmp_path: Path
) -> None:
    """Where the file has no idea the model is asked in its turn."""
    own = tmp_path / "own.py"
    own.write_text(
        "def propose(brief, rng):\n"
        "    return f'A = {100 + brief.evaluation}\\n' if brief.evaluation % 4 else None\n"
    )
    out = tmp_path / "out"
    chosen = settings(problem, given(author, proposers=[str(own), "model"], evaluations=20))
    optimisation.start(problem, chosen, out, workers=1)
    proposers = {record.operator for record in records(out) if isinstance(record, VariantAdded)}
    assert "own" in proposers and proposers & {"edit", "rewrite"}
    own.unlink()
    author.server.shutdown()
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed


@pytest.mark.parametrize("command", ["pause", "stop"])
def test_a_run_that_a_person_ends_is_replayed_with_all_its_bills(
    problem: EvaluatorFolder,
    author: Author,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    """The model has written programs that were never evaluated, and was paid."""
    monkeypatch.setattr(driver, "SAYING", 0.0)
    out = tmp_path / "out"

    def ask(entry: Entry) -> None:
        if isinstance(entry.record, Rated) and entry.record.evaluation == 6:
            Inbox(out).put(Request(command=command), 0)

    optimisation.start(problem, settings(problem, given(author)), out, ask, workers=1)
    found = records(out)
    rated = max(record.evaluation for record in found if isinstance(record, Rated))
    billed = [record.stage for record in found if isinstance(record, Metered)]
    assert billed[-1] == f"proposer evaluation {rated + 4}"
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed


def test_a_model_without_a_server_is_refused(problem: EvaluatorFolder) -> None:
    with pytest.raises(ConfigError, match="go together"):
        settings(problem, {"proposers": ["model"]})


def test_nulls_ask_the_model_on_bills_of_their_own_and_are_replayed_without_it(
    problem: EvaluatorFolder, author: Author, tmp_path: Path
) -> None:
    """A null's prompt has its parent, and neither another program nor a failure."""
    out = tmp_path / "out"
    more = {"evaluations": 8, "nulls": "on"}
    optimisation.start(problem, settings(problem, given(author, **more)), out, workers=1)
    asked = [sum(each.requests for each in records(path) if isinstance(each, Metered)) for path in three(out)]
    assert all(asked) and sum(asked) == len(author.seen)
    of_nulls = [body["messages"][-1]["content"] for body in author.seen[asked[0] :]]
    assert not any("Another good program" in each or "Other programs failed" in each for each in of_nulls)
    assert all("A = -1\n" in each for each in of_nulls[: asked[1]])
    author.server.shutdown()
    recorded, replayed = runs.replay(out, tmp_path / "again")
    assert recorded == replayed
    assert audit(out).ok, audit(out).findings


def three(out: Path) -> list[Path]:
    """A run and its nulls."""
    return [out, *(out / "nulls" / name for name in ("best_of", "random_search"))]
