"""Baselines at equal budget: the bare policy with as many tokens as the champion's program takes, in every run's report."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from moevolve.config import Config
from moevolve.journal.figures import gain
from moevolve.journal.intervals import independent_gain
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.run import replay, start
from moevolve.loop.stages.nulls import most_frequent
from moevolve.records import Evaluated, Nulls, Record, RunFinished
from moevolve.report import terminal
from moevolve.report.summary import summary_of
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.task import Task, Verdict

SETTINGS = {"suite.levels": [4, 10], "evolve.screen": 96, "gate.max_n": 384, "attempts.tasks": 48}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config.load("small", SETTINGS).override(seed=2, arm="program", cycles=1)
    return start(config, tmp_path_factory.mktemp("nulls") / "run")


def records_of(out: Path) -> list[Record]:
    with RunStore.open(out) as store:
        return [entry.record for entry in store.entries()]


def test_the_end_of_a_run_shows_what_samples_alone_would_do(out: Path) -> None:
    *_, final, nulls, last = records_of(out)
    assert isinstance(final, Evaluated)
    assert isinstance(last, RunFinished)
    assert isinstance(nulls, Nulls)
    assert nulls.variant == last.champion != "v0000"
    assert nulls.samples > 1
    # The same tasks for all four; the best of the samples bounds every way to choose among them.
    assert (
        len({each.n for each in (nulls.champion, nulls.greedy, nulls.self_consistency, nulls.best_of)}) == 1
    )
    assert nulls.best_of.mean >= nulls.self_consistency.mean
    assert nulls.champion.mean > nulls.self_consistency.mean
    # Task by task: the same difference, in a narrower interval than that of two samples.
    assert nulls.over.keys() == {"greedy", "self_consistency", "best_of"}
    for name, found in nulls.over.items():
        other = getattr(nulls, name)
        assert found.gain == pytest.approx(nulls.champion.mean - other.mean)
        assert found.low < found.gain < found.high and found.n == other.n
        low, high = independent_gain(other, nulls.champion)
        assert found.high - found.low < high - low


def test_the_report_says_so_and_a_replay_finds_the_same(out: Path, tmp_path: Path) -> None:
    with RunStore.open(out) as store:
        summary = summary_of(store)
        view = read(store).view
    assert summary is not None
    console = terminal.console()
    with console.capture() as said:
        console.print(terminal.report(summary, view))
    shown = " ".join(said.get().split())
    assert "At the champion's budget" in shown
    assert summary.nulls is not None
    paired = summary.nulls.over["self_consistency"]
    assert f"{gain(paired.gain)} [{gain(paired.low)}, {gain(paired.high)}] over self-consistency" in shown
    assert (
        msgspec.to_builtins(summary)["nulls"]["over"]["greedy"]["gain"] == summary.nulls.over["greedy"].gain
    )
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again


def test_they_can_be_left_out(tmp_path: Path) -> None:
    config = Config.load("small", {**SETTINGS, "evolve.nulls": "off"}).override(
        seed=2, arm="program", cycles=1
    )
    assert not any(isinstance(record, Nulls) for record in records_of(start(config, tmp_path / "run")))


def test_of_equally_frequent_answers_the_first_one_counts() -> None:
    def attempt(answer: str, failure: str | None = None) -> Attempt:
        task = Task(prompt="p", answer="a", skill="s", level=1)
        return Attempt(task, answer, Verdict(score=0.0, success=False, failure=failure))

    assert most_frequent([attempt("b"), attempt("a"), attempt("a"), attempt("b")]).answer == "b"
    # What was not answered is no answer, however often.
    assert most_frequent([attempt("", "policy"), attempt("", "policy"), attempt("c")]).answer == "c"
