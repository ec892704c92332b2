"""What memory brought to candidates in their screening: a share of what recalled is made again without it, on record."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moevolve.auditor import audit
from moevolve.config import Config
from moevolve.journal.control import Inbox, Request
from moevolve.journal.programs import program_files
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.limits import Extension
from moevolve.loop.run import replay, resume, start
from moevolve.loop.stages.remember import compare
from moevolve.records import Recalled, Remembered
from moevolve.report import terminal
from moevolve.report.summary import summary_of
from moevolve.rollouts.attempts import Attempt, Counts, Rollouts
from moevolve.rollouts.runner import RolloutRequest
from moevolve.tasks.task import Task, Verdict

TASKS = [Task(prompt=f"rev:{number}=", answer="", skill="text/reverse", level=1) for number in range(40)]


def attempt(task: Task, recalled: bool, right: bool) -> Attempt:
    verdict = Verdict(score=float(right), success=right, failure=None if right else "wrong")
    return Attempt(task, "x", verdict, (), (("lesson",),) if recalled else (), ())


def request(variant: str, tasks: list[Task]) -> RolloutRequest:
    return RolloutRequest(
        variant=variant,
        weights="w",
        program="p",
        tasks=tasks,
        stage=(1, 2, "screen", 0),
        parts=True,
        twice=True,
    )


class Runner:
    """Answers wrong whatever it is asked; notes what that was."""

    def __init__(self) -> None:
        self.asked: list[RolloutRequest] = []

    def run(self, again: RolloutRequest) -> list[Rollouts]:
        self.asked.append(again)
        return [
            Rollouts(
                [attempt(task, False, False) for task in again.tasks], Counts(tokens=7 * len(again.tasks))
            )
        ]


def context(runner: Runner, **memory: object) -> Any:
    config = Config.load("small", {f"memory.{key}": value for key, value in memory.items()})
    counted: list[Counts] = []
    return SimpleNamespace(
        lessons=SimpleNamespace(on=config.memory.mode != "off"),
        config=config,
        runner=runner,
        count=counted.append,
        counted=counted,
        bill=lambda cycle, stage: None,
    )


def rolled(variant: str, start: int, recalls: int) -> tuple[RolloutRequest, Rollouts]:
    tasks = TASKS[start : start + 10]
    made = [attempt(task, place < recalls, True) for place, task in enumerate(tasks)]
    return request(variant, tasks), Rollouts(made, Counts())


def test_a_share_of_what_recalled_is_made_again_with_the_same_keys_and_no_memory() -> None:
    runner = Runner()
    run = context(runner, without=0.5)
    found = compare(run, 2, 0, [rolled("v0007", 0, 8), rolled("v0007", 10, 4), rolled("v0008", 20, 0)])
    [told] = found
    assert (told.variant, len(told.without), told.trust, told.expired) == ("v0007", 6, {}, [])
    assert told.with_memory == [1.0] * 6 and told.without == [0.0] * 6
    assert told.tokens == 42 == sum(each.tokens for each in run.counted)
    for again in runner.asked:
        assert not again.memory and not again.twice and not again.parts
        assert (
            again.places is not None
            and [TASKS[p] if again.tasks[0] in TASKS[:10] else TASKS[10 + p] for p in again.places]
            == again.tasks
        )
    places = [place for again in runner.asked for place in again.places or ()]
    assert all(place < 8 for place in places)


def test_the_same_are_chosen_again_and_others_for_another_candidate() -> None:
    first, second = Runner(), Runner()
    for runner in (first, second):
        compare(context(runner, without=0.5), 2, 0, [rolled("v0007", 0, 10), rolled("v0008", 0, 10)])
    assert [each.places for each in first.asked] == [each.places for each in second.asked]
    assert first.asked[0].places != first.asked[1].places


def test_a_part_of_an_attempt_is_one_with_its_probability() -> None:
    tried = 0
    for number in range(200):
        found = compare(context(Runner(), without=0.1), 2, 0, [rolled(f"v{number:04}", 0, 3)])
        tried += sum(len(each.without) for each in found)
    assert 35 < tried < 90, "three tenths of an attempt a candidate"


def test_without_memory_or_recalls_nothing_is_made_again() -> None:
    runner = Runner()
    assert compare(context(runner, mode="off"), 2, 0, [rolled("v0007", 0, 8)]) == []
    assert compare(context(runner, without=0.0), 2, 0, [rolled("v0007", 0, 8)]) == []
    assert compare(context(runner, without=1.0), 2, 0, [rolled("v0007", 0, 0)]) == []
    assert runner.asked == []


RECALLING = '''"""A program that shows the policy solved examples before every question."""

import plan


def solve(task):
    return plan.ask(f"{plan.lessons(2, 0.5)}{task.prompt}")
'''


def test_a_run_of_plans_measures_what_memory_brought_to_a_candidate_and_replays_it(tmp_path: Path) -> None:
    """The champion recalls nothing; somebody puts forward a program that does."""
    config = Config.load("small", {"memory.without": 0.5, "growth.on": False, "evolve.nulls": "off"})
    run = start(config.override(seed=5, cycles=1), tmp_path / "run")
    with RunStore.open(run) as store:
        began = read(store).started
        files = program_files(store, began.program) | {"solve.py": RECALLING}
    Inbox(run).put(Request(command="import", files=files), 0)
    resume(run, more=Extension(cycles=1))
    with RunStore.open(run) as store:
        records = [entry.record for entry in store.entries()]
        summary = summary_of(store)
        head = store.head()
    recalled = [
        each for each in records if isinstance(each, Recalled) and each.stage == "screen" and each.lessons
    ]
    assert recalled, "the candidate was screened"
    told = [each for each in records if isinstance(each, Remembered) and each.variant == recalled[0].variant]
    assert told and all(len(each.without) == len(each.with_memory) > 0 for each in told)
    assert summary is not None and summary.memory.n == sum(len(each.without) for each in told) > 0
    assert "made again without" in terminal.memory_words(summary.memory)
    assert not audit(run).findings
    assert replay(run, tmp_path / "again") == (head, head)
