"""Proposers of one's own: whatever they return, raise, print or change costs their own evaluations and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optimising import PROBLEM, head, records, started

from moevolve.cli.main import main
from moevolve.errors import ConfigError
from moevolve.loop import run as runs
from moevolve.loop.optimise.settings import settings
from moevolve.records import Improved, Rated
from moevolve.tasks.evaluators.folder import EvaluatorFolder

PROPOSAL = "    from moevolve.loop.optimise.proposers import Proposal\n"


class TestProposersOfOnesOwn:
    def run(self, folder: EvaluatorFolder, tmp_path: Path, body: str, **given: Any) -> list[Rated]:
        file = tmp_path / "own.py"
        file.write_text(f"def propose(brief, rng):\n{body}")
        found = started(folder, tmp_path / "out", evaluations=8, proposers=[str(file)], **given)
        assert runs.replay(tmp_path / "out", tmp_path / "again")[1] == head(tmp_path / "out")
        return [record for record in found if isinstance(record, Rated)][1:]

    @pytest.mark.parametrize(
        ("body", "failure"),
        [
            ("    return brief.parent\n", "duplicate"),
            ("    return None\n", "rejected"),
            ("    return 'This is the best program of all.'\n", "error"),
            ("    raise ValueError('tired')\n", "rejected"),
            ("    return brief.parent + '#' * 300_000\n", "rejected"),
            ("    return 3\n", "rejected"),
            ("    return '# \\ud800'\n", "rejected"),
            (f"{PROPOSAL}    return Proposal(brief.parent, None, 3)\n", "rejected"),
            (f"{PROPOSAL}    return Proposal('A = 1', 'own', '\\udfff')\n", "rejected"),
            ("    raise ValueError('\\ud800')\n", "rejected"),
            ("    raise SystemExit(3)\n", "rejected"),
            ("    from moevolve.errors import UsageError\n    raise UsageError('mine')\n", "rejected"),
            (
                "    class Mute(Exception):\n        def __str__(self): raise KeyError\n    raise Mute\n",
                "rejected",
            ),
        ],
    )
    def test_what_is_worth_nothing_costs_its_budget_and_nothing_else(
        self, problem: Callable[..., EvaluatorFolder], tmp_path: Path, body: str, failure: str
    ) -> None:
        found = self.run(problem(), tmp_path, body)
        assert len(found) == 7 and found[0].failure == failure
        assert {record.failure for record in found} <= {failure, "duplicate"}

    def test_a_better_program_is_promoted(
        self, problem: Callable[..., EvaluatorFolder], tmp_path: Path
    ) -> None:
        self.run(problem(), tmp_path, "    return 'A = 7\\nB = 0.8\\n'\n")
        [*_, last] = [record for record in records(tmp_path / "out") if isinstance(record, Improved)]
        assert last.candidate_scores == [10.0]
        program = (tmp_path / "out" / "program" / "initial_program.py").read_text()
        assert "B = 0.8" in program

    def test_edits_outside_of_the_marks(
        self, problem: Callable[..., EvaluatorFolder], tmp_path: Path
    ) -> None:
        body = "    return 'import os\\n' + brief.parent\n"
        assert {record.failure for record in self.run(problem(), tmp_path, body, marks=True)} == {"rejected"}

    def test_marks_that_a_docstring_mentions_open_nothing(
        self, problem: Callable[..., EvaluatorFolder], tmp_path: Path
    ) -> None:
        mentions = (
            '"""What stands between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change."""\nLIMIT = 10\n'
        )
        body = "    return brief.parent.replace('LIMIT = 10', f'LIMIT = {rng.random()}')\n"
        found = self.run(problem(program=mentions + PROBLEM), tmp_path, body, marks=True)
        assert {record.failure for record in found} == {"rejected"}

    def test_marks_that_are_not_there_cannot_be_enforced(
        self, problem: Callable[..., EvaluatorFolder]
    ) -> None:
        with pytest.raises(ConfigError, match="marks=true, and .* has no comment lines"):
            settings(problem(program="A = 3\nB = 0.5\n"), {"marks": True})


def test_a_proposer_that_changes_its_brief_changes_nothing_else(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "def propose(brief, rng):\n"
        "    brief.metrics.clear()\n"
        "    if hasattr(brief.failures, 'clear'): brief.failures.clear()\n"
        "    return f'A = {rng.randrange(9)}\\nB = {rng.random()}\\n'\n"
    )
    found = started(problem(), tmp_path / "out", proposers=[str(file)], selection="gepa-pareto")
    assert runs.replay(tmp_path / "out", tmp_path / "again")[1] == head(tmp_path / "out")
    file.write_text(file.read_text().replace("    brief.metrics.clear()\n", ""))
    again = started(problem(), tmp_path / "same", proposers=[str(file)], selection="gepa-pareto")
    assert again == found


def test_what_a_proposer_prints_is_narration(
    problem: Callable[..., EvaluatorFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "print('imported')\ndef propose(brief, rng):\n    print('asked')\n    return f'A = {rng.random()}\\nB = 1\\n'\n"
    )
    folder, out = problem(), str(tmp_path / "out")
    run = ["run", "--openevolve", str(folder.path), "--out", out, "--evaluations", "4", "--display", "json"]
    assert main([*run, "--proposer", str(file), "--workers", "1"]) == 0
    heard = capsys.readouterr()
    assert all(json.loads(each) for each in heard.out.splitlines()) and heard.out
    assert "imported" in heard.err and "asked" in heard.err
