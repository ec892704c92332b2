"""What a run says beforehand about a suite of few tasks."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import moevolve as mv
from moevolve.cli.main import main
from moevolve.gate.spending import AlphaSpending
from moevolve.loop.stages.gate import finite_data
from moevolve.records import Gated


@pytest.mark.parametrize(
    ("few", "n", "detail"),
    [
        ({"my/evals": 30}, 30, "30 gate tasks in whole rounds of skills cannot show less than +0.43"),
        ({"my/evals": 4}, 4, "4 gate tasks in whole rounds of skills show no gain at all"),
    ],
)
def test_few_tasks_are_told_with_the_gain_that_they_can_show(
    few: dict[str, int], n: int, detail: str
) -> None:
    run = SimpleNamespace(
        skills=sorted(few), few_tasks=few, state=SimpleNamespace(spending=AlphaSpending(alpha=0.05))
    )
    guard = finite_data(run)  # type: ignore[arg-type]
    assert guard.checked == n
    assert guard.detail.startswith(detail)


def test_a_decision_without_fresh_tasks_ends(tmp_path: Path) -> None:
    """Candidates of a suite of few tasks: the first decision spends them, and the others give up."""
    suite, agent = tmp_path / "suite", tmp_path / "agent"
    for kind, folder in (("suite", suite), ("agent", agent)):
        assert main(["init", kind, str(folder)]) == 0
    (agent / "improve.py").write_text(IMPROVE)
    settings = {
        "gate": {"min_n": 4, "max_n": 200, "batch": 8, "confirm_n": 0},
        "evolve": {"candidates": 1, "screen": 12, "margin": 0.0, "proposers": ["improver"]},
        "attempts.tasks": 8,
    }
    run = mv.evolve(
        "small", out=tmp_path / "run", arm="program", cycles=3, suite=suite, agent=agent, settings=settings
    ).wait()
    gates = [entry.record for entry in run if isinstance(entry.record, Gated)]
    assert len(gates) >= 2 and gates[0].n <= 18
    assert not any(gate.n or gate.decision == "promote" for gate in gates[1:]), gates


IMPROVE = '''
from contract import Edit

SOLVE = """
MONTHS = "January February March April May June July August September October November December".split()

async def solve(task, agent):
    _, day, month, year, *_ = task.prompt.split()
    right = f"{year}-{MONTHS.index(month) + 1:02}-{int(day):02}"
    return right if int(day) % 4 < GOOD else "no"
"""

async def improve(brief, agent):
    good = brief.cycle + 1  # Whichever parent it has, and however the splits fall.
    return [Edit("solve.py", f"GOOD = {good}\\n{SOLVE}", "script", f"right for {good} days of four")]
'''
