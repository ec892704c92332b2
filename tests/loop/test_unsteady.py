"""Candidates that differ from try to try: found, discarded, and no reason for a run to differ from its own journal."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.records import Gated, ProposerAsked, Screened

RUN = [sys.executable, str(Path(__file__).parents[1] / "fixtures" / "unsteady_run.py")]
KILLS = 10


def journal(path: Path) -> tuple[str, list]:
    with RunStore.open(path) as store:
        return store.head(), [entry.record for entry in store.entries()]


def length(path: Path) -> int:
    """Records so far."""
    try:
        with RunStore.open(path) as store:
            return len(store)
    except UsageError:
        return 0


@pytest.fixture(scope="module", params=["any", "policy"])
def undisturbed(request, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("unsteady") / request.param
    subprocess.run([*RUN, "start", request.param, str(out)], check=True)
    return request.param, out


def test_they_are_discarded_as_nondeterministic(undisturbed):
    answers, out = undisturbed
    _, records = journal(out)
    screened = [record for record in records if isinstance(record, Screened)]
    unsteady = [record for record in screened if "nondeterministic" in record.failures]
    refused = [
        reason
        for record in records
        if isinstance(record, ProposerAsked)
        for reason in record.broken
        if "nondeterministic" in reason
    ]
    # Counts as answers where a program may compute; counts in plans are found before anything is tried.
    assert len(unsteady) + len(refused) >= 1
    for record in unsteady:
        assert (record.passed, record.score, record.failures) == (False, 0.0, {"nondeterministic": record.n})
    judged = {record.candidate for record in records if isinstance(record, Gated)}
    assert not judged & {record.variant for record in unsteady}
    # Clocks and entropy are functions of the key: such a program is only bad.
    assert len(screened) > len(unsteady)
    assert not (out / "programs.part").exists()


@pytest.mark.long
def test_ten_kills_end_with_the_head_of_the_undisturbed_run(undisturbed, tmp_path: Path):
    answers, whole = undisturbed
    out = tmp_path / "killed"
    moments = random.Random(12)
    kills, deed = 0, "start"
    while True:
        child = subprocess.Popen([*RUN, deed, answers, str(out)], stderr=subprocess.PIPE)
        if kills == KILLS:
            break
        # A length to wait for, not a time, and for programs' words behind it: the kill falls somewhere in a stage.
        wanted = length(out) + moments.randrange(0, 3)
        said = out / "programs.part"
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if length(out) >= wanted and said.exists() and said.stat().st_size:
                break
        if child.poll() is not None:
            break
        child.kill()
        child.wait()
        kills += 1
        deed = "resume" if (out / "journal").is_dir() else "start"
    _, problem = child.communicate(timeout=240)
    assert child.returncode == 0, problem.decode()
    assert kills == KILLS
    assert journal(out)[0] == journal(whole)[0]
