"""A run of schema version 2 is read; what it did not record is absent, and nobody goes on with it."""

from pathlib import Path

import msgspec
import pytest
from older_run import write_older_run

from moevolve.journal.store import RunStore, decode_record
from moevolve.records import Attempted, Gated, RolledBack, RunStarted, Tally, VariantAdded


def test_every_entry_of_an_older_run_is_a_record_of_now(tmp_path: Path) -> None:
    head = write_older_run(tmp_path / "older")
    with RunStore.open(tmp_path / "older") as store:
        records = [entry.record for entry in store.entries()]
        assert (store.head(), store.verify()) == (head, len(records))
    assert isinstance(records[0], RunStarted)
    assert records[0].answers == "policy"
    variants = [record for record in records if isinstance(record, VariantAdded)]
    assert [variant.parents for variant in variants[:3]] == [[], ["v0000"], ["v0001"]]
    assert all(variant.score is None for variant in variants)
    assert all(record.tokens is None for record in records if isinstance(record, Gated))


def test_a_rollback_was_a_promotion_without_a_comparison() -> None:
    fields = {
        "kind": "gated",
        "cycle": 3,
        "level": "weights",
        "candidate": "v0001",
        "champion": "v0002",
        "decision": "promote",
        "reason": "rolled back on request",
        "n": 0,
        "wins": 0,
        "losses": 0,
        "gain": 0.0,
        "evidence": 0.0,
        "alpha": 1.0,
        "skills": {},
    }
    record = decode_record(msgspec.msgpack.encode(fields))
    assert record == RolledBack(cycle=3, champion="v0001", before="v0002", reason="rolled back on request")


@pytest.mark.parametrize("body", [{"kind": "run_started"}, {"kind": "unheard"}, {"kind": "gated", "n": 1}])
def test_what_no_version_wrote_is_named_by_its_first_fault(body: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(msgspec.msgpack.encode(body))


def test_a_level_beyond_all_sense_is_no_record() -> None:
    """Readers walk from a skill's lowest level to its highest: a forged one kept them busy without end."""
    tally = Tally(skill="text/sort", level=2**40, attempts=1, successes=1)
    body = msgspec.msgpack.encode(
        Attempted(cycle=1, stage="direct", source="direct", variant="v0000", tallies=[tally], tokens=1)
    )
    with pytest.raises(msgspec.ValidationError, match="level"):
        decode_record(body)
