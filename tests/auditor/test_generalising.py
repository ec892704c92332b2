"""The audit of generalisation: columns computed again, and held against what the run worked on; a forged one is found."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from moevolve.auditor import audit
from moevolve.loop.run import start
from moevolve.records import Attempted, Generalised, Record, SealedOpened

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


def test_an_honest_run_is_in_order(measured: Path) -> None:
    report = audit(measured)
    assert report.ok, report.findings
    assert report.sealed.accesses == 5
