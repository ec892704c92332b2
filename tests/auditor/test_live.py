"""Runs that are being written, and folders that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moevolve.auditor import audit
from moevolve.auditor.live import is_written
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.records import Timing

READ = """
import sys
from moevolve.auditor import audit
report = audit(sys.argv[1])
print(report.state, report.complete, report.mismatches, report.chain.entries > 10)
"""


def test_a_run_that_is_being_written_is_read_between_two_commits(interrupted: Path) -> None:
    assert not is_written(interrupted)
    with RunStore.open(interrupted, write=True) as store:
        assert is_written(interrupted)
        record = store.entries(5, 1)[0].record
        done = subprocess.Popen(
            [sys.executable, "-c", READ, str(interrupted)], stdout=subprocess.PIPE, text=True
        )
        while done.poll() is None:
            store.put("noise", "key", bytes(5000))
        assert done.stdout is not None
        assert done.stdout.read().split() == ["running", "False", "0", "True"]
        assert record is not None
    assert audit(interrupted).state == "unfinished"


def test_a_run_without_a_record_is_audited_as_far_as_it_goes(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run"):
        pass
    report = audit(tmp_path / "run")
    assert (report.ok, report.complete, report.chain.entries) == (True, False, 0)


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_without_a_run_is_a_usage_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        audit(tmp_path / name)


def test_an_unknown_decision_is_a_usage_error(finished: Path) -> None:
    with pytest.raises(UsageError, match="v0001"):
        audit(finished, decision="v0077")
    report = audit(finished, decision="v0001")
    assert [each.candidate for each in report.decisions] == ["v0001"]
    assert report.ok and report.decisions[0].checked


def test_the_first_record_must_begin_a_run(tmp_path: Path, finished: Path) -> None:
    with RunStore.open(finished) as source, RunStore.create(tmp_path / "run") as store:
        store.append([entry.record for entry in source.entries(1)], Timing(at=0.0))
    assert not audit(tmp_path / "run").ok
