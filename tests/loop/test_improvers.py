"""A way of improving by itself: packed with what it came to, and put to use in another agent."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from moevolve.agents.genome import Genome, load, seed_genome
from moevolve.cli.main import main
from moevolve.config import Config
from moevolve.journal.store import RunStore
from moevolve.loop.improvers import files_of, generations
from moevolve.loop.run import start
from moevolve.records import Chosen, Proposed, Screened


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"evolve.candidates": 4, "evolve.nulls": "off", "attempts.tasks": 24}
    config = Config.load("small", settings).override(seed=8, arm="program", cycles=2)
    return start(config, tmp_path_factory.mktemp("improvers") / "run")


def test_its_figures_are_those_of_the_journal(out: Path) -> None:
    with RunStore.open(out) as store:
        records = [entry.record for entry in store.entries()]
        found = generations(store, files_of(seed_genome()))
        nobody = generations(store, {"improve.py": "other"})
    chosen = [record for record in records if isinstance(record, Chosen)]
    made = sum(isinstance(record, Proposed) for record in records)
    assert found.gains == [max(0.0, record.gain or 0.0) for record in chosen]
    assert found.candidates == made / len(chosen)
    assert found.screened == sum(isinstance(record, Screened) for record in records)
    assert (nobody.gains, nobody.screened) == ([], 0)


def test_it_is_exported_with_them_and_starts_another_agent(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "improver"
    assert main(["export", str(out), "--improver", str(folder), "--variant", "champion"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["improve.py", "improver.toml"]
    told = tomllib.loads((folder / "improver.toml").read_text())
    assert told["suite"] == "primer"
    assert told["generations"] >= 1
    assert told["imp"] >= 0
    (folder / "solve.py").write_text("async def solve(task, agent):\n    return ''\n")
    assert load(folder).files["improve.py"] == seed_genome().files["improve.py"]


def test_prompts_for_a_model_belong_to_it() -> None:
    genome = Genome(
        files={"solve.py": "", "improve.py": "i", "proposer/edit.md": "p", "prompts/system.md": "s"}
    )
    assert files_of(genome) == {"improve.py": "i", "proposer/edit.md": "p"}
