"""Recalls of attempts at what the tree grew are on record like any other."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from growing import growing  # noqa: E402

import moevolve  # noqa: E402
from moevolve.auditor import audit  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.records import GrowthScored, Recalled  # noqa: E402

SEED = Path(moevolve.__file__).parent / "agents" / "seed"


def test_each_recall_of_what_was_grown_is_on_record(tmp_path: Path) -> None:
    agent = Path(shutil.copytree(SEED, tmp_path / "agent"))
    plans = (agent / "solve.py").read_text()
    asked = "plan.ask(plan.lessons(1) + task.prompt)"
    assert "plan.ask(task.prompt)" in plans
    (agent / "solve.py").write_text(plans.replace("plan.ask(task.prompt)", asked))
    settings = {"agent.path": str(agent), "evolve.generations": 0, "evolve.nulls": "off"}
    run = start(growing(**settings, **{"memory.embedder": "hashed-ngrams"}), tmp_path / "run")
    with RunStore.open(run) as store:
        records = [entry.record for entry in store.entries()]
    recalled = {(each.stage, each.cycle): each for each in records if isinstance(each, Recalled)}
    assert any(stage == "growth" for stage, _ in recalled), "attempts at a change that was tried"
    [scored] = [each for each in records if isinstance(each, GrowthScored)]
    column = recalled["grown sealed", scored.cycle]
    assert column.attempts == sum(tally.attempts for tally in scored.tallies)
    report = audit(run)
    assert report.ok, report.findings
    recorded, again = replay(run, tmp_path / "again")
    assert recorded == again
