"""The loop from end to end on the shipped seed, at the smallest size that does everything."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from moevolve.auditor import audit
from moevolve.config import Config
from moevolve.errors import ConfigError, StoreBusyError, UsageError
from moevolve.journal import samples
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.run import replay, resume, start
from moevolve.records import (
    Attempted,
    CycleFinished,
    Entry,
    Evaluated,
    Gated,
    Learned,
    RunFinished,
    RunStarted,
    Trained,
    VariantAdded,
)


def small(**changes: object) -> Config:
    return Config.load("small").override(seed=3, **changes)  # type: ignore[arg-type]


def journal(path: Path) -> tuple[str, list]:
    with RunStore.open(path) as store:
        return store.head(), [entry.record for entry in store.entries()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(small(), tmp_path_factory.mktemp("loop") / "first")


def test_a_run_does_every_stage_and_ends(finished: Path) -> None:
    _, records = journal(finished)
    kinds = {type(record) for record in records}
    assert {RunStarted, VariantAdded, Attempted, Learned, Trained, Gated, Evaluated, CycleFinished} <= kinds
    assert isinstance(records[-1], RunFinished)
    assert records[-1].cycles == 2


def test_the_bare_policy_attempts_as_many_tasks_as_it_is_given(tmp_path: Path, finished: Path) -> None:
    given = Config.load("small", {"attempts.direct": 70, "attempts.samples": 2}).override(seed=3, cycles=1)
    counts: dict[str, dict[str, float]] = {}
    for run in (start(given, tmp_path / "run"), finished):
        _, records = journal(run)
        counts[run.name] = {
            record.stage: sum(tally.attempts for tally in record.tallies)
            for record in records
            if isinstance(record, Attempted) and record.cycle == 1
        }
    assert counts["run"]["direct"] == 140
    assert counts["run"]["program"] == counts["first"]["program"]
    assert audit(tmp_path / "run").ok


def test_what_the_bare_policy_failed_it_attempts_again_and_no_estimate_counts_that(tmp_path: Path) -> None:
    settings = {"attempts.direct": 70, "attempts.samples": 1}
    found = {}
    for name, most in (("without", 0), ("with", 40)):
        given = Config.load("small", settings | {"attempts.again": most}).override(seed=3, cycles=1)
        found[name] = start(given, tmp_path / name)
    _, records = journal(found["with"])
    [again] = [each for each in records if isinstance(each, Attempted) and each.stage == "again"]
    attempts = sum(tally.attempts for tally in again.tallies)
    assert 0 < attempts <= 40 and attempts % 4 == 0
    [direct] = [each for each in records if isinstance(each, Attempted) and each.stage == "direct"]
    failed = {(t.skill, t.level): t.attempts - t.successes for t in direct.tallies}
    assert all(t.attempts <= 4 * failed[t.skill, t.level] for t in again.tallies)
    counted = {}
    for name, path in found.items():
        with RunStore.open(path) as store:
            view = read(store).view
        counted[name] = {skill: each.practice for skill, each in view.skills.items()}
    assert counted["with"] == counted["without"]
    assert audit(found["with"]).ok


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attempts.again": 40, "learn.loss": "grpo"}, r"set attempts\.again = 0"),
        ({"attempts.samples": 1, "learn.loss": "cispo"}, r"set attempts\.samples to two"),
        ({"attempts.again": 42}, "multiple of 4"),
    ],
)
def test_attempts_that_could_teach_nothing_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config.load("small", settings)


def test_the_sealed_split_is_scored_twice_on_the_same_tasks(finished: Path) -> None:
    _, records = journal(finished)
    sealed = [record for record in records if isinstance(record, Evaluated) and record.split == "sealed"]
    assert [record.when for record in sealed] == ["initial", "final"]
    assert sealed[0].score.n == sealed[1].score.n


def test_the_folder_holds_what_the_contract_says(finished: Path) -> None:
    assert (finished / "journal").is_dir()
    assert list((finished / "weights").glob("*.safetensors"))
    assert {path.name for path in (finished / "program").iterdir()} == {"solve.py", "improve.py", "learn.py"}
    assert (finished / "run.toml").is_file()


def test_attempts_of_every_stage_are_kept_for_people_and_none_of_the_sealed_split(finished: Path) -> None:
    with RunStore.open(finished) as store:
        kept = samples.stages(store)
        state, sessions = store.state(), store.sessions()
    assert {stage.stage for stage in kept} <= {"direct", "program", "screen", "gate", "dev"}
    assert {"direct", "program", "dev", "gate"} <= {stage.stage for stage in kept}
    for stage in kept:
        assert len(stage.samples) <= 24
        assert all(each.failure is not None for each in stage.samples if not each.success)
        if stage.stage == "gate":
            assert all(each.success != each.other_success for each in stage.samples)
            assert all(each.requests and each.other_requests for each in stage.samples)
    assert any(each.requests for stage in kept if stage.stage == "program" for each in stage.samples)
    assert state is not None and state.gate is None
    assert [session.pid for session in sessions] == [os.getpid()]


def test_one_seed_gives_one_journal(finished: Path, tmp_path: Path) -> None:
    again = start(small(), tmp_path / "again")
    assert journal(again)[0] == journal(finished)[0]


def test_threads_do_not_change_a_journal(finished: Path, tmp_path: Path) -> None:
    # The number of threads is a setting, so the first record differs; all that follows must not.
    config = small()
    config = msgspec.structs.replace(config, policy=msgspec.structs.replace(config.policy, threads=1))
    one = journal(start(config, tmp_path / "one"))[1]
    assert one[2:] == journal(finished)[1][2:]


def test_another_seed_gives_another_journal(finished: Path, tmp_path: Path) -> None:
    other = start(small().override(seed=4, cycles=1), tmp_path / "other")
    assert journal(other)[0] != journal(finished)[0]


def test_a_replay_meets_the_head(finished: Path, tmp_path: Path) -> None:
    on_file, again = replay(finished, tmp_path / "scratch")
    assert on_file == again


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before = journal(finished)[0]
    resume(finished)
    assert journal(finished)[0] == before


def test_a_folder_with_a_run_is_not_started_again(finished: Path) -> None:
    with pytest.raises(UsageError, match=str(finished)):
        start(small(), finished)


def test_a_second_writer_is_turned_away(finished: Path) -> None:
    with RunStore.open(finished, write=True), pytest.raises(StoreBusyError):
        resume(finished)


@pytest.mark.parametrize("arm", ["weights", "program", "random-reward", "sft"])
def test_arms_switch_parts_off(arm: str, tmp_path: Path) -> None:
    _, records = journal(start(small(arm=arm, cycles=1), tmp_path / arm))
    levels = {record.level for record in records if isinstance(record, Gated)}
    assert any(isinstance(record, Trained) for record in records) == (arm != "program")
    if arm in ("weights", "sft"):
        assert levels <= {"weights"}
    if arm == "program":
        assert levels <= {"program"}


@pytest.mark.parametrize("share", [0.0, 0.04, 0.06, 0.1, 0.4, 0.6, 0.97])
def test_a_run_interrupted_at_any_record_ends_with_the_same_head(
    share: float, finished: Path, tmp_path: Path
) -> None:
    head, records = journal(finished)
    last = int(share * (len(records) - 1))

    def stop(entry: Entry) -> None:
        if entry.seq >= last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(small(), tmp_path / "run", stop)
    assert len(journal(tmp_path / "run")[1]) > last
    resume(tmp_path / "run")
    assert journal(tmp_path / "run")[0] == head


def _child(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "moevolve.cli.main", *arguments, "--display", "none"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_with_the_same_head(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    moments = random.Random(11)
    child = _child("run", "small", "--seed", "3", "--out", str(out))
    kills = 0
    while kills < 6:
        # A journal length to wait for, not a time: the kill falls somewhere behind it.
        wanted = moments.randrange(1, 40)
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if (out / "journal").is_dir() and _length(out) >= wanted:
                break
        if child.poll() is not None:
            break
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        kills += 1
        child = _child("resume", str(out))
    _, problem = child.communicate(timeout=120)
    assert child.returncode == 0, problem.decode()
    assert kills > 0
    assert journal(out)[0] == journal(finished)[0]


def _length(out: Path) -> int:
    try:
        with RunStore.open(out) as store:
            return len(store)
    except UsageError:
        return 0
