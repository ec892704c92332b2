"""What a run puts on record did happen, and what happened is on record."""

from pathlib import Path

import pytest

import moevolve
from moevolve.config import Config
from moevolve.errors import DivergedError
from moevolve.journal.archive import Archive
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.journal.view import RunView
from moevolve.loop import resolve
from moevolve.loop.run import replay, start
from moevolve.records import (
    Chosen,
    CycleFinished,
    Evaluated,
    Gated,
    Learned,
    Record,
    RunStarted,
    Screened,
    SealedOpened,
    VariantAdded,
)
from moevolve.report.optimisation import figures_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(Config.load("small").override(seed=5), tmp_path_factory.mktemp("records") / "run")


@pytest.fixture(scope="module")
def records(finished: Path) -> list[Record]:
    with RunStore.open(finished) as store:
        return [entry.record for entry in store.entries()]


@pytest.fixture(scope="module")
def archive(finished: Path) -> Archive:
    with RunStore.open(finished) as store:
        return read(store).archive()


def test_the_dev_split_is_scored_before_the_first_cycle(records: list[Record]) -> None:
    scored = [(r.split, r.when, r.cycle) for r in records if isinstance(r, Evaluated)]
    assert scored[:2] == [("sealed", "initial", 0), ("dev", "initial", 0)]
    assert scored[2:] == [("dev", "cycle", 1), ("dev", "cycle", 2), ("sealed", "final", 2)]


def test_sealed_outcomes_are_on_record_task_by_task(records: list[Record]) -> None:
    first, last = (r for r in records if isinstance(r, Evaluated) and r.split == "sealed")
    assert len(first.outcomes) == len(last.outcomes) == first.score.n
    for record in (first, last):
        assert sum(outcome or 0 for outcome in record.outcomes) == pytest.approx(
            record.score.mean * record.score.n
        )
        assert sum(tally.successes for tally in record.tallies) == sum(
            outcome == 1 for outcome in record.outcomes
        )


def test_the_sealed_split_is_opened_for_the_first_and_the_last_score(records: list[Record]) -> None:
    opened = [(at, r) for at, r in enumerate(records) if isinstance(r, SealedOpened)]
    scored = [(at, r) for at, r in enumerate(records) if isinstance(r, Evaluated) and r.split == "sealed"]
    assert [(r.count, r.when, r.variant, r.cycle) for _, r in opened] == [
        (count, r.when, r.variant, r.cycle) for count, (_, r) in enumerate(scored, 1)
    ]
    assert [r.tasks for _, r in opened] == [len(r.outcomes) for _, r in scored]
    assert opened[0][1].digest == opened[1][1].digest
    assert all(before < after for (before, _), (after, _) in zip(opened, scored, strict=True))


def test_one_module_of_a_run_opens_the_sealed_split() -> None:
    package = Path(moevolve.__file__).parent
    doors = [
        str(source.relative_to(package))
        for source in sorted(package.rglob("*.py"))
        if ".opened()" in source.read_text(encoding="utf-8")
    ]
    assert doors == ["loop/evaluation.py", "loop/sealed.py"]


def test_graders_that_changed_are_refused(finished: Path, tmp_path: Path, monkeypatch) -> None:
    with RunStore.open(finished) as store:
        first = store.entries(0, 1)[0].record
    assert isinstance(first, RunStarted)
    assert first.grader == resolve.graders(Config.load("small"))
    monkeypatch.setattr(resolve, "graders", lambda config: "0" * 32)
    with pytest.raises(DivergedError, match="graders of suite primer have changed since the run began"):
        replay(finished, tmp_path / "again")


def test_every_candidate_of_a_generation_is_in_its_choice(records: list[Record]) -> None:
    waiting: list[str] = []
    passed: set[str] = set()
    choices = 0
    for record in records:
        if isinstance(record, VariantAdded) and record.level == "program":
            waiting.append(record.variant)
        elif isinstance(record, Screened):
            assert record.variant in waiting
            if record.passed:
                passed.add(record.variant)
            else:
                waiting.remove(record.variant)
        elif isinstance(record, Chosen):
            choices += 1
            named = [*record.not_chosen, *record.unscreened] + ([record.chosen] if record.chosen else [])
            assert sorted(named) == sorted(waiting)
            assert {record.chosen, *record.not_chosen} - {None} == passed
            waiting, passed = [], set()
    assert choices == 2 and not waiting


def test_a_score_is_a_variants_own(records: list[Record]) -> None:
    screened = {record.variant: record.score for record in records if isinstance(record, Screened)}
    for record in records:
        if isinstance(record, VariantAdded):
            assert record.score == screened.get(record.variant)


def test_weights_and_program_of_every_variant_come_from_its_lineage_or_from_itself(archive: Archive) -> None:
    for variant in archive:
        above = archive.lineage(variant.id)[:-1]
        if variant.level == "program":
            assert variant.weights in {ancestor.weights for ancestor in above}
        elif variant.level == "weights":
            assert variant.program in {ancestor.program for ancestor in above}


def test_tokens_are_counted_where_they_are_drawn(records: list[Record]) -> None:
    view = RunView()
    for seq, record in enumerate(records):
        if isinstance(record, CycleFinished):
            assert (view.generated, view.trained) == (record.tokens_generated, record.tokens_trained)
        if isinstance(record, Gated):
            assert record.tokens
        view.take(seq, record, 0.0)
    assert view.generated > 0 and view.trained > 0


def test_recipe_answers_and_walls_are_told(finished: Path, records: list[Record]) -> None:
    assert isinstance(records[0], RunStarted) and records[0].answers == "policy"
    assert all(record.recipe for record in records if isinstance(record, Learned))
    with RunStore.open(finished) as store:
        shown = figures_of(store)
    assert "limits" in shown["sandbox"]["layers"]
    assert shown["answers"] == "policy" and {"gain", "gain_ci"} <= shown["score"].keys()


def test_what_is_not_trained_has_no_recipe(tmp_path: Path) -> None:
    out = start(Config.load("small").override(seed=5, cycles=1, arm="program"), tmp_path / "run")
    with RunStore.open(out) as store:
        [learned] = [entry.record for entry in store.entries() if isinstance(entry.record, Learned)]
    assert learned.recipe is None
