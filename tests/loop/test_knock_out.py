"""What is the policy's and what the program's, on record: the bare policy's score, and the score with a stranger's words."""

from __future__ import annotations

from pathlib import Path

import pytest

import moevolve as mv
from moevolve.cli.main import main
from moevolve.records import Evaluated, Guarded

IMPROVE = '''
from contract import Edit

SOLVE = """
MONTHS = "January February March April May June July August September October November December".split()

async def solve(task, agent):
    await agent.generate(task.prompt, temperature=0)
    _, day, month, year, *_ = task.prompt.split()
    return f"{year}-{MONTHS.index(month) + 1:02}-{int(day):02}"
"""

async def improve(brief, agent):
    return [Edit("solve.py", SOLVE, "script", "compute the date")]
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mv.Run:
    """A run in which a program that computes is promoted."""
    folder = tmp_path_factory.mktemp("knock-out")
    for kind in ("suite", "agent"):
        assert main(["init", kind, str(folder / kind)]) == 0
    (folder / "agent" / "improve.py").write_text(IMPROVE)
    settings = {
        "gate": {"min_n": 8, "max_n": 200, "batch": 8, "confirm_n": 0},
        "evolve": {"candidates": 1, "screen": 12, "proposers": ["improver"]},
        "attempts.tasks": 8,
        "guard.knock_out": 16,
    }
    return mv.evolve(
        "small",
        out=folder / "run",
        arm="program",
        cycles=1,
        suite=folder / "suite",
        agent=folder / "agent",
        settings=settings,
    ).wait()


def test_a_program_that_computes_does_not_notice_another_tasks_words(run: mv.Run) -> None:
    assert run.champion == "v0001"
    [record] = [e.record for e in run if isinstance(e.record, Guarded) and e.record.guard == "knock-out"]
    assert (record.variant, record.checked, record.vetoed) == ("v0001", 16, 0)
    assert record.detail.startswith("1.00") and "with the policy's own" in record.detail


def test_the_bare_policy_stands_beside_the_system(run: mv.Run) -> None:
    sealed = [e.record for e in run if isinstance(e.record, Evaluated) and e.record.split == "sealed"]
    assert [record.bare is not None and record.bare.mean < 0.2 for record in sealed] == [True, True]
    shown = run.summary["score"]
    assert shown["final"] == 1.0 and shown["bare_final"] < 0.2  # type: ignore[index,call-overload]


def test_it_is_replayed_and_audited(run: mv.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert mv.replay(run.path).equal
    assert main(["audit", str(run.path)]) == 0
    assert main(["show", str(run.path)]) == 0
    assert "bare policy" in capsys.readouterr().out


def test_where_answers_are_the_policys_nothing_is_left_without_its_words(tmp_path: Path) -> None:
    run = mv.evolve("small", out=tmp_path / "run", cycles=0).wait()
    assert all(e.record.bare is None for e in run if isinstance(e.record, Evaluated))
