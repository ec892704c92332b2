"""Both levels of a run: promoted weights are taken apart, and arm `alternate` gives one level its turn at a time."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import msgspec
import pytest

import moevolve as mv
from moevolve.journal.store import RunStore
from moevolve.records import Ablated, Arm, Chosen, CycleStarted, Gated, Level, Record
from moevolve.report.optimisation import figures_of

SOLVE = """
async def solve(task, agent):
    first = await agent.generate(task.prompt, temperature=1)
    return first.text
"""
CHECK = """
def check(task, answer, workspace):
    return float(answer[:1] in ("a", "b", "c"))
"""
RECIPE = """
from contract import Recipe
def recipe(report):
    return Recipe(program_share=1.0, steps=24, batch=24, learning_rate=2e-3)
"""
SETTINGS = {
    "gate": {"min_n": 16, "max_n": 64, "confirm_n": 64, "batch": 16, "margin": 0.3, "alpha": 0.2},
    "attempts.tasks": 64,
    "evolve": {"screen": 16},
    "learn.steps": 24,
    "guard.use": [],
}


def records(run: Path) -> list[Record]:
    with RunStore.open(run) as store:
        return [entry.record for entry in store.entries()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A suite that wants words with a certain beginning, which the seed draws now and then, and an agent that draws once."""
    folder, draw = tmp_path_factory.mktemp("levels"), Random(1)
    suite, agent = folder / "beginnings", folder / "agent"
    suite.mkdir()
    agent.mkdir()
    words = sorted({"".join(draw.choices("abcdefghij", k=5)) for _ in range(400)})
    rows = [{"id": word, "prompt": f"go:{word}=", "answer": "a"} for word in words]
    (suite / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (suite / "check.py").write_text(CHECK)
    (agent / "solve.py").write_text(SOLVE)
    (agent / "learn.py").write_text(RECIPE)
    return suite, agent


def run(files: tuple[Path, Path], out: Path, arm: Arm, cycles: int) -> Path:
    suite, agent = files
    mv.evolve(
        "small",
        out=out,
        cycles=cycles,
        seed=3,
        arm=arm,
        suite=suite,
        agent=agent,
        settings=SETTINGS,
    ).wait()
    return out


@pytest.fixture(scope="module")
def full(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(files, tmp_path_factory.mktemp("full") / "run", "full", 1)


def test_promoted_weights_are_scored_bare_with_the_old_program_and_with_one_searched_for_after(
    full: Path,
) -> None:
    found = records(full)
    promoted = next(r for r in found if isinstance(r, Gated) and r.decision == "promote")
    assert promoted.level == "weights"
    [ablated] = [record for record in found if isinstance(record, Ablated)]
    assert ablated.weights == promoted.candidate
    assert ablated.bare and ablated.old and ablated.searched
    assert ablated.bare.n == ablated.old.n == ablated.searched.n == len(ablated.outcomes["old"])
    # It comes after the search that it tells of.
    kinds = [type(record) for record in found]
    assert kinds.index(Gated) < kinds.index(Chosen) < kinds.index(Ablated)


def test_the_scores_are_shown(full: Path) -> None:
    [ablated] = [record for record in records(full) if isinstance(record, Ablated)]
    with RunStore.open(full) as store:
        [shown] = figures_of(store)["ablations"]
    assert shown["weights"] == ablated.weights and shown["variant"] == ablated.variant
    assert ablated.old and shown["old_program"]["score"] == round(ablated.old.mean, 4)
    pairs = zip(ablated.outcomes["old"], ablated.outcomes["searched"], strict=True)
    gains = [after - before for before, after in pairs if before is not None and after is not None]
    assert shown["gain"] == round(sum(gains) / len(gains), 4)
    assert shown["gain_ci"][0] <= shown["gain"] <= shown["gain_ci"][1]


def test_an_audit_agrees_and_a_replay_meets_every_record(full: Path) -> None:
    report = mv.audit(full)
    assert report.ok, report.findings
    assert mv.replay(full).equal


@pytest.mark.long
def test_arm_alternate_turns_to_the_other_level_once_one_makes_no_progress(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    found = records(run(files, tmp_path / "run", "alternate", 4))
    turns = [record.turn for record in found if isinstance(record, CycleStarted)]
    assert turns[0] == "program"
    progress: dict[int, set[Level]] = {}
    for record in found:
        if isinstance(record, Gated):
            assert record.level == turns[record.cycle - 1] or any(
                isinstance(each, Ablated) and each.cycle == record.cycle for each in found
            )
            progress.setdefault(record.cycle, set()).update(
                {record.level} if record.decision == "promote" else ()
            )
    for cycle, (now, after) in enumerate(zip(turns, turns[1:], strict=False), start=1):
        assert (after == now) == (now in progress.get(cycle, set()))
    assert len(set(turns)) == 2


def test_a_record_of_an_older_version_names_no_turn() -> None:
    old = {"kind": "cycle_started", "cycle": 1, "champion": "v0000"}
    assert msgspec.convert(old, CycleStarted).turn is None
