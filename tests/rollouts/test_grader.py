"""The grader's process: whatever a user's check does is the verdict on one answer, and harms nothing else."""

from __future__ import annotations

import dataclasses
import enum
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from moevolve.config import SandboxSection
from moevolve.errors import UsageError
from moevolve.rollouts.grader import GraderProcess
from moevolve.rollouts.grading import Given, SealedGrader
from moevolve.tasks.environment import Environment
from moevolve.tasks.grader.carried import dumps, loads
from moevolve.tasks.grader.seal import seal
from moevolve.tasks.grading import HUNG, grade
from moevolve.tasks.skill import Skill
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task, Verdict

PRIMER = suite("primer")
HERE = Path(__file__)


@dataclasses.dataclass(frozen=True)
class Wanted:
    value: int

    def met(self, answer: str) -> bool:
        return dataclasses.asdict(self)["value"] == int(answer)


class Colour(enum.Enum):
    """A class with a metaclass: it goes by the name of its module, which the process reads from this folder."""

    RED = "red"


def spin() -> float:
    while True:
        pass


def swallow() -> float:
    while True:
        try:
            spin()
        except BaseException:  # noqa: BLE001  the very thing that is tried
            continue


def chatter() -> float:
    while True:
        print("x" * 10_000)


def fill() -> float:
    Path("/tmp/full").write_text("x" * 10**7)
    return 1.0


def loud() -> float:
    print("a word on stdout")
    return 1.0


def sleep() -> float:
    time.sleep(10**6)
    return 1.0


def forge() -> float:
    """Verdicts in the names of others, on every descriptor there may be."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'[[1.0,true,null,""]]' * 3)
        except OSError:
            continue
    return 0.0


def deep() -> float:
    return deep()


def raise_value() -> float:
    raise ValueError("no number in it")


DEEDS: dict[str, tuple[Callable[[], object], str | None]] = {
    "raises": (raise_value, "check_error"),
    "none": (lambda: None, "check_error"),
    "text": (lambda: "1", "check_error"),
    "nan": (lambda: float("nan"), "check_error"),
    "beyond": (lambda: 1e300, "check_error"),
    "a class": (lambda: float, "check_error"),
    "exit": (lambda: os._exit(0), "check_error"),
    "exit of the system": (lambda: sys.exit(0), "check_error"),
    "fork": (os.fork, "check_error"),
    "memory": (lambda: float(len(bytearray(10**12))), "check_error"),
    "disk": (fill, "check_error"),
    "network": (lambda: socket.create_connection(("127.0.0.1", 9)), "check_error"),
    "secrets": (lambda: Path("/etc/passwd").read_text() and 1.0, "check_error"),
    "its own folder's hidden files": (lambda: (HERE.parents[2] / ".git").stat() and 1.0, "check_error"),
    "recursion": (deep, "check_error"),
    "forgery": (forge, "check_error"),
    "spin": (spin, "check_timeout"),
    "spin on": (swallow, "check_timeout"),
    "print for ever": (chatter, "check_timeout"),
    "a word on stdout": (loud, None),
    "sleep": (sleep, None),
    "a verdict": (lambda: Verdict(score=0.25, success=False, detail="near"), "wrong"),
    "a number of its own": (lambda: True, None),
}


def generate(rng: Random, level: int) -> Task:
    wanted = Wanted(rng.randrange(10**6))

    def check(answer: str) -> float:
        if answer in DEEDS:
            return DEEDS[answer][0]()  # type: ignore[return-value]
        return float(wanted.met(answer) and Colour.RED.value == "red")

    return Task(prompt=f"say {wanted.value}", grade=check)


OWN = Suite("own", [Skill(path="own/say", summary="say a number", generator=generate)])


@pytest.fixture(scope="module")
def process() -> Iterator[GraderProcess]:
    made = GraderProcess(OWN, SandboxSection(check_seconds=0.2))
    yield made
    made.close()


@pytest.mark.parametrize("deed", sorted(DEEDS))
def test_what_a_check_does_is_the_verdict_on_its_answer_alone(deed: str, process: GraderProcess) -> None:
    task = OWN.task("own/say", 1, 7)
    right = task.prompt.removeprefix("say ")
    before, verdict, after = process.grade([(task, right), (task, deed), (task, right)])
    assert before.success and after.success
    assert verdict.failure == DEEDS[deed][1]
    assert verdict.success == (verdict.failure is None)
    assert verdict.detail or verdict.success


def test_a_traceback_is_kept(process: GraderProcess) -> None:
    [verdict] = process.grade([(OWN.task("own/say", 1, 7), "letters")])
    assert verdict.failure == "check_error"
    assert "invalid literal for int() with base 10: 'letters'" in verdict.detail


def test_where_checks_hang_the_rest_is_not_run(process: GraderProcess) -> None:
    task = OWN.task("own/say", 1, 7)
    verdicts = process.grade([(task, "spin")] * (HUNG + 20))
    assert {verdict.failure for verdict in verdicts} == {"check_timeout"}
    assert [("not run" in verdict.detail) for verdict in verdicts] == [False] * HUNG + [True] * 20
    assert process.grade([(task, task.prompt.removeprefix("say "))])[0].success


def test_a_process_that_is_gone_is_started_again(process: GraderProcess) -> None:
    primer = GraderProcess(PRIMER, SandboxSection())
    task = PRIMER.draw("train", "text/reverse", 3, 1)
    for _ in range(2):
        assert primer.grade([(task, task.answer or "")])[0].success
        assert primer._native is not None
        primer._native.close()
    primer.close()


def test_the_process_agrees_with_the_graders_of_the_primer() -> None:
    process = GraderProcess(PRIMER, SandboxSection())
    tasks = PRIMER.sample("train", [(path, level) for path in PRIMER.skills for level in (1, 8, 16)], 3)
    given = [
        (task, answer)
        for task in tasks
        for answer in (task.answer or "", f" {task.answer}\n", "", "zz", "0" * 4096, "\ud800", "acdb\0", "ａ")
    ]
    assert process.grade(given) == [PRIMER.grade(task, answer) for task, answer in given]
    process.close()


class Friendly(str):
    """An answer that is equal to everything."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def strip(self, chars: str | None = None) -> str:
        return self


def test_an_answer_is_graded_as_the_plain_text_it_is() -> None:
    process = GraderProcess(PRIMER, SandboxSection())
    task = PRIMER.draw("train", "text/reverse", 3, 1)
    assert not process.grade([(task, Friendly("zz"))])[0].success
    assert not grade(task, Friendly("zz")).success
    process.close()


def test_a_generator_that_draws_from_elsewhere_is_found_out() -> None:
    calls: list[int] = []

    def drifting(rng: Random, level: int) -> Task:
        calls.append(1)
        return Task(prompt=f"{len(calls)}", answer="x")

    drift = Suite("drift", [Skill(path="own/drift", summary="", generator=drifting)])
    first = drift.task("own/drift", 1, 1)
    process = GraderProcess(drift, SandboxSection())
    [verdict] = process.grade([(drift.task("own/drift", 1, 1), "x")])
    assert verdict.failure == "check_error" if len(calls) == 2 and first else False
    process.close()


def test_no_gold_answer_travels() -> None:
    task = PRIMER.draw("train", "text/reverse", 14, 1)
    assert (task.answer or "").encode() not in dumps(PRIMER.skills, "the primer")


def test_what_cannot_be_sent_is_named() -> None:
    import threading

    lock = threading.Lock()

    def locked(rng: Random, level: int) -> Task:
        with lock:
            return Task(prompt="?", answer="x")

    odd = Suite("odd", [Skill(path="own/odd", summary="", generator=locked)])
    with pytest.raises(UsageError, match=r"suite odd cannot be graded in a process of its own: .*lock"):
        GraderProcess(odd, SandboxSection()).start()


def test_functions_go_by_value_with_what_they_name() -> None:
    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    class Box:
        limit = 3

        def __init__(self, n: int) -> None:
            self.n = n

        @property
        def small(self) -> bool:
            return self.n < self.limit

        @staticmethod
        def of(n: int) -> Box:
            return Box(n)

    again = loads(dumps({"even": even, "box": Box, "wanted": Wanted(3)}, "these"))
    assert again["even"](10) and not again["even"](7)
    assert again["box"].of(2).small and not again["box"](4).small
    assert again["wanted"].met("3")


def test_the_seal_follows_the_source_and_its_values() -> None:
    def suited(answer: str) -> Suite:
        def make(rng: Random, level: int) -> Task:
            return Task(prompt=f"{rng.random()}", answer=answer)

        return Suite("own", [Skill(path="own/x", summary="", generator=make)])

    assert seal(suited("a")) == seal(suited("a"))
    assert seal(suited("a")) != seal(suited("b"))
    assert seal(PRIMER) == seal(suite("primer")) != seal(OWN)


class Counter(Environment):
    """A world whose score ends its process, hangs or remembers: what one answer does is no other's verdict."""

    seen: list[str] = []  # noqa: RUF012  shared by all worlds, which is what is tried

    def score(self, task: Mapping[str, Any], answer: str) -> float:
        self.seen.append(answer)
        if answer == "exit":
            os._exit(1)
        while answer == "spin":
            pass
        return float(len(self.seen) == 1)


@pytest.mark.parametrize(("deed", "failure"), [("exit", "check_error"), ("spin", "check_timeout")])
def test_the_score_of_an_environment_is_the_verdict_on_its_answer_alone(deed: str, failure: str) -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt=f"count to {rng.random()}", environment=Counter)

    world = Suite("world", [Skill(path="own/world", summary="", generator=generate)])
    judge = SealedGrader(world, SandboxSection(check_seconds=0.2))
    task = world.task("own/world", 1, 7)
    given = [Given(task, answer, index) for index, answer in enumerate(("first", deed, "first"))]
    verdicts = judge.grade(given, ("x",))
    judge.close()
    assert [verdict.failure for verdict in verdicts] == [None, failure, None]
