"""The audit of generalisation: columns computed again, and held against what the run worked on; a forged one is found."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moevolve.auditor import audit
from moevolve.auditor.findings import Findings
from moevolve.auditor.generalising import Generalisation
from moevolve.journal.store import RunStore
from moevolve.loop.run import start
from moevolve.records import (
    Attempted,
    Evaluated,
    Gated,
    Generalised,
    Record,
    RunExtended,
    RunFinished,
    Screened,
    SealedOpened,
    SkillScore,
    Tally,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from forging import forged  # noqa: E402
from generalising import generalising  # noqa: E402

replace = msgspec.structs.replace
Change = Callable[[list[Record]], list[Record]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(generalising(), tmp_path_factory.mktemp("audited") / "run")


def faults(run: Path, *checks: str) -> list[str]:
    return [each.text for each in audit(run).findings if each.check in checks]


def column(name: str, change: Callable[[Generalised], Generalised]) -> Change:
    return lambda records: [
        change(each) if isinstance(each, Generalised) and each.column == name else each for each in records
    ]


def better(record: Generalised) -> Generalised:
    return replace(record, outcomes=record.outcomes | {"champion": [1.0] * len(record.outcomes["champion"])})


def renamed(record: Generalised) -> Generalised:
    """A skill that the run worked on among those that it left out."""
    (_, level, n), *others = record.cells
    return replace(record, cells=[("text/reverse", level, n), *others])


def practised(records: list[Record]) -> list[Record]:
    """Attempts of practice at a skill that was left out, which no other record tells of."""
    at = next(index for index, each in enumerate(records) if isinstance(each, Attempted))
    stage = records[at]
    assert isinstance(stage, Attempted)
    tallies = [replace(stage.tallies[0], skill="text/sort"), *stage.tallies[1:]]
    return [*records[:at], replace(stage, tallies=tallies), *records[at + 1 :]]


def unopened(records: list[Record]) -> list[Record]:
    return [each for each in records if not (isinstance(each, SealedOpened) and each.when == "generalise")]


def hidden(records: list[Record]) -> list[Record]:
    return [each for each in records if not (isinstance(each, Generalised) and each.column == "G3")]


def unsaid(record: Generalised) -> Generalised:
    return replace(
        record, cells=[], outcomes={}, seed=None, champion=None, missing=0, reason="no branch was left out"
    )


def shifted(record: Generalised) -> Generalised:
    """As many tasks, of another skill of the run than the screening's."""
    (_, level, n), *others = record.cells
    return replace(record, cells=[("text/caesar", level, n + sum(each[2] for each in others))])


def twice(record: Generalised) -> Generalised:
    """A cell with more tasks than were allowed, in two halves."""
    (skill, level, n), (_, _, m), *others = record.cells
    return replace(record, cells=[(skill, level, n), (skill, level, m), *others])


def unasked(name: str, reason: str) -> Change:
    """A column that was left out, its access with it."""

    def change(records: list[Record]) -> list[Record]:
        left: list[Record] = []
        for each in records:
            if isinstance(each, Generalised) and each.column == name:
                if left and isinstance(left[-1], SealedOpened):
                    left.pop()
                each = replace(unsaid(each), tokens=0, behaviours={}, reason=reason)
            left.append(each)
        return left

    return change


def early(records: list[Record]) -> list[Record]:
    """The screening's column before the last score."""
    at = next(i for i, each in enumerate(records) if isinstance(each, SealedOpened) and each.when == "final")
    [same] = [each for each in records if isinstance(each, Generalised) and each.column == "G0"]
    rest = [each for each in records[at:] if each is not same]
    return [*records[:at], same, *rest]


def scored(kind: type, **fields: Any) -> Change:
    """The first record of a kind with other skills."""

    def change(records: list[Record]) -> list[Record]:
        at = next(index for index, each in enumerate(records) if isinstance(each, kind))
        return [*records[:at], replace(records[at], **fields), *records[at + 1 :]]

    return change


FORGERIES: dict[str, tuple[Change, str]] = {
    "an outcome": (column("G2", better), "the mean of the champion"),
    "outcomes of other tasks": (
        column("G0", lambda r: replace(r, outcomes={"seed": [1.0], "champion": [1.0]})),
        "not those of both",
    ),
    "an interval": (
        column("G3", lambda r: replace(r, seed=replace(r.seed, low=0.4))),  # type: ignore[type-var]
        "lower end",
    ),
    "a score that is left out": (column("G3", lambda r: replace(r, seed=None)), "has a score"),
    "missing tasks": (column("G0", lambda r: replace(r, missing=2)), "without an answer"),
    "another variant": (column("G2", lambda r: replace(r, variant="v0000")), "who was scored"),
    "no access": (unopened, "without an access"),
    "a column that is not there": (hidden, "column G3 was asked for"),
    "a reason in place of scores": (column("G4", unsaid), "were opened, and it has no score"),
    "a reason beside scores": (column("G0", lambda r: replace(r, reason="so")), "a reason why"),
    "a skill of the run": (column("G3", renamed), "text/reverse, level 7 is none of column G3"),
    "one column as another": (column("G4", lambda r: replace(r, column="G3")), "is none of column G3"),
    "practice at what was left out": (practised, "text/sort was held out, and the run attempted it"),
    "tasks that nobody screened": (column("G0", shifted), "was screened on"),
    "a screening that there was": (
        unasked("G0", "the champion's program passed no screening"),
        "the champion's program passed a screening",
    ),
    "an end that nobody brought about": (
        unasked("G3", "the run was cut short"),
        "which nothing on record did",
    ),
    "levels that no tree opened": (
        unasked("G2", "the skill tree opens levels itself: see the growth column"),
        "whether levels were left to the tree",
    ),
    "a column before the last score": (early, "before the last score"),
    "another cycle": (column("G0", lambda r: replace(r, cycle=7)), "the cycle of a column"),
    "no plans": (column("G4", lambda r: replace(r, behaviours={})), "whose plans it names"),
    "screening on what was left out": (
        scored(Screened, skills={"text/sort": SkillScore(0.5, 48)}),
        "text/sort was held out, and the run attempted it",
    ),
    "a score on what was left out": (
        scored(Evaluated, skills={"number/parity": SkillScore(0.5, 48)}),
        "number/parity was held out, and the run attempted it",
    ),
    "a gate on what was left out": (
        scored(Gated, skills={"text/sort": 0.1}),
        "text/sort was held out, and the run attempted it",
    ),
    "plans of another": (
        column("G2", lambda r: replace(r, behaviours={"v0002": "0" * 64})),
        "plans of v0002",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_column_is_found(name: str, measured: Path, tmp_path: Path) -> None:
    change, said = FORGERIES[name]
    found = faults(forged(measured, tmp_path / "forged", change), "generalise", "scores")
    assert any(said in each for each in found), found


def test_more_tasks_than_were_asked_for_are_found(measured: Path, tmp_path: Path) -> None:
    more = column("G2", lambda r: replace(r, cells=[(skill, level, 2) for skill, level, _ in r.cells]))
    found = faults(forged(measured, tmp_path / "forged", more), "budgets")
    assert any("2 tasks in column G2, and 1 were allowed" in each for each in found), found


def test_more_tasks_in_two_halves_are_found(measured: Path, tmp_path: Path) -> None:
    found = faults(forged(measured, tmp_path / "forged", column("G2", twice)), "budgets")
    assert any("2 tasks in column G2, and 1 were allowed" in each for each in found), found


def test_an_honest_run_is_in_order(measured: Path) -> None:
    report = audit(measured)
    assert report.ok, report.findings
    assert report.sealed.accesses == 5


def test_what_was_left_out_may_be_tried_once_the_run_goes_on(measured: Path) -> None:
    """A tree may grow it; at the new end it is left out of the columns."""
    with RunStore.open(measured) as store:
        records = [entry.record for entry in store.entries()]
    champion = next(each.champion for each in records if isinstance(each, RunFinished))
    extended = RunExtended(cycle=1, more_cycles=1, more_minutes=None, cycles=2)
    tally = Tally(skill="text/sort", level=7, attempts=1, successes=0)
    tried = Attempted(cycle=2, stage="s", variant="v0000", source="direct", tallies=[tally], tokens=0)
    again = [each for each in records if isinstance(each, Generalised) and each.column == "G3"]
    for more, wrong in (([extended, tried], False), ([tried], True), ([extended, tried, *again], True)):
        findings = Findings()
        watcher = Generalisation(findings)
        for seq, record in enumerate([*records, *more]):
            watcher.take(seq, record, champion)
        found = [each.text for each in findings.listed if "was held out" in each.text]
        assert bool(found) == wrong, findings.listed
