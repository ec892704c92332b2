"""The audit of growth: a change is decided again from its trial, and a forged one is found."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moevolve.auditor import audit
from moevolve.auditor.growth import speaks_for
from moevolve.loop.run import roll_back, start
from moevolve.records import Controlled, Grown, GrowthScored, Record, SealedOpened, SkillScore, Tally
from moevolve.skills.growth import judge

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from forging import forged  # noqa: E402
from growing import growing  # noqa: E402

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def grown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(growing(), tmp_path_factory.mktemp("audited") / "run")


def growth_faults(run: Path) -> list[str]:
    return [each.text for each in audit(run).findings if each.check == "growth"]


def test_an_honest_run_with_growth_is_in_order_before_and_after_a_rollback(
    grown_run: Path, tmp_path: Path
) -> None:
    assert audit(grown_run).ok
    copy = Path(shutil.copytree(grown_run, tmp_path / "copy"))
    roll_back(copy, "g001")
    assert audit(copy).ok


def first(records: list[Record], change: Callable[[Grown], Grown]) -> list[Record]:
    at = next(index for index, record in enumerate(records) if isinstance(record, Grown))
    record = records[at]
    assert isinstance(record, Grown)
    return [*records[:at], change(record), *records[at + 1 :]]


def failing(record: Grown) -> list[Tally]:
    return [replace(tally, successes=0) for tally in record.trial]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, trial=failing(r)), "what the trial decides"),
        (lambda r: replace(r, decision="declined"), "what the trial decides"),
        (lambda r: replace(r, growth="g007"), "the change's name"),
        (lambda r: replace(r, variant="v0099"), "who was tried"),
        (lambda r: replace(r, trial=[replace(r.trial[0], skill="text/other")]), "attempts at text/other"),
    ],
)
def test_a_forged_change_is_found(
    grown_run: Path, tmp_path: Path, change: Callable[[Grown], Grown], said: str
) -> None:
    faults = growth_faults(forged(grown_run, tmp_path / "forged", lambda records: first(records, change)))
    assert any(said in fault for fault in faults), faults


def test_a_forged_growth_column_is_found(grown_run: Path, tmp_path: Path) -> None:
    def better(records: list[Record]) -> list[Record]:
        return [
            replace(
                record,
                skills={path: SkillScore(score=1.0, n=each.n + 1) for path, each in record.skills.items()},
            )
            if isinstance(record, GrowthScored)
            else record
            for record in records
        ]

    assert growth_faults(forged(grown_run, tmp_path / "forged", better))


def test_a_growth_column_without_its_access_to_the_sealed_split_is_found(
    grown_run: Path, tmp_path: Path
) -> None:
    def hidden(records: list[Record]) -> list[Record]:
        return [each for each in records if not (isinstance(each, SealedOpened) and each.when == "growth")]

    faults = growth_faults(forged(grown_run, tmp_path / "forged", hidden))
    assert any("without an access" in fault for fault in faults)


def test_a_rollback_of_what_was_never_added_is_found(grown_run: Path, tmp_path: Path) -> None:
    def taken(records: list[Record]) -> list[Record]:
        never = Controlled(
            cycle=2, request=1, command="rollback", variant="g099", done=True, champion="v0000"
        )
        return [*records, never]

    assert any("g099" in fault for fault in growth_faults(forged(grown_run, tmp_path / "forged", taken)))


@pytest.mark.parametrize("change", ["levels", "compose", "split", "retire"])
def test_the_audit_and_the_run_decide_alike(change: Any) -> None:
    """Two statistics of their own, the same decisions."""
    for wins in range(0, 49, 3):
        for other in range(0, 49, 3):
            trial = [
                Tally(skill="a/x_with_a", level=1, attempts=48, successes=wins),
                Tally(skill="a/x_without_a", level=1, attempts=48, successes=other),
            ]
            for each in (trial, trial[:1]):
                assert speaks_for(change, each) is judge(change, each)[0], (wins, other)
