"""A candidate that would lose what the tree grew is refused, and one that keeps it is not; both are on record."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from growing import growing  # noqa: E402

from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.journal.archive import Variant  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.journal.writer import JournalWriter  # noqa: E402
from moevolve.loop import resolve, snapshot  # noqa: E402
from moevolve.loop.context import RunContext  # noqa: E402
from moevolve.loop.opening import opened  # noqa: E402
from moevolve.loop.run import start  # noqa: E402
from moevolve.loop.stages.unharmed import PAIRS, fallen, unharmed  # noqa: E402
from moevolve.records import RunStarted  # noqa: E402
from moevolve.rollouts.attempts import Attempt, Rollouts  # noqa: E402
from moevolve.rollouts.runner import RolloutRequest  # noqa: E402
from moevolve.skills.growth import new_leaves  # noqa: E402
from moevolve.tasks.grading import refused  # noqa: E402


def test_a_fall_is_told_by_pairs_that_went_two_ways() -> None:
    fall, evidence = fallen([(False, True)] * 20 + [(True, True)] * 28)
    assert fall == pytest.approx(20 / 48) and evidence == pytest.approx(20 * 0.693147, rel=1e-4)
    assert fallen([(True, False)] * 9 + [(False, True)] * 9) == (0.0, 0.0)
    assert fallen([(True, False)] * 5)[0] < 0
    assert fallen([]) == (0.0, 0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """A run that has ended, open where it ended."""
    path = start(growing(), tmp_path_factory.mktemp("unharmed") / "run")
    store = RunStore.open(path, write=True)
    began = store.entries(0, 1)[0].record
    assert isinstance(began, RunStarted)
    config = resolve.on_record(began, path)
    state = snapshot.latest(store)
    assert state is not None
    engine = resolve.engine(config)
    context, _, _ = opened(config, store, engine, JournalWriter(store, len(store)), lambda words, done: None)
    context.restore(state)
    return context


def changed(run: RunContext, name: str, source: str) -> Variant:
    """The champion with another `solve.py`."""
    files = dict(run.store.genome(run.champion.program).files) | {"solve.py": source}
    program = run.store.hold(Genome(files=files))
    return run.archive.add(
        Variant(
            name,
            [run.champion.id],
            3,
            run.champion.weights,
            program,
            "program",
            "own",
            name,
            None,
            "candidate",
        )
    )


def test_a_program_that_loses_a_grown_leaf_is_refused(run: RunContext) -> None:
    composed = [
        path for path, change in new_leaves(run.growing.changes).items() if change.change == "compose"
    ]
    assert composed, "the run grew a leaf"
    careless = "import plan\n\n\ndef solve(task):\n    return plan.ask(task.prompt)\n"
    found = unharmed(run, 3, changed(run, "careless", careless))
    assert found is not None and found.vetoed >= 1 and found.evidence is not None and found.proof is not None
    assert found.evidence >= found.proof and found.guard == "growth"
    assert any(path in found.detail for path in composed)
    assert {each.task for each in found.attempts} <= set(run.growing.levels)


def test_tasks_that_a_candidate_alone_leaves_unanswered_are_lost(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It chooses what it asks: a request that no server takes would hide each task that it cannot do."""
    composed = [
        path for path, change in new_leaves(run.growing.changes).items() if change.change == "compose"
    ]
    roll = run.growing.roll

    def silent(attempt: Attempt) -> Attempt:
        lost = attempt.task.skill in composed and not attempt.verdict.success
        return replace(attempt, verdict=refused("policy", "the server is gone")) if lost else attempt

    def rolled(*requests: RolloutRequest) -> list[Rollouts]:
        ours, theirs = roll(*requests)
        return [replace(ours, attempts=[silent(attempt) for attempt in ours.attempts]), theirs]

    monkeypatch.setattr(run.growing, "roll", rolled)
    source = "import plan\n\n\ndef solve(task):\n    return plan.ask(f'{task.prompt}')\n"
    found = unharmed(run, 3, changed(run, "silent", source))
    assert found is not None and found.vetoed >= 1
    assert any(path in found.detail for path in composed)


def test_the_champion_itself_keeps_everything(run: RunContext) -> None:
    same = run.store.genome(run.champion.program).files["solve.py"] + "\n# the same\n"
    found = unharmed(run, 3, changed(run, "same", same))
    assert found is not None
    assert (found.vetoed, found.checked) == (0, len(run.growing.levels))
    assert f"{PAIRS * len(run.growing.levels):,} paired tasks" in found.detail
