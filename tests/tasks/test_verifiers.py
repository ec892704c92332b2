"""Environments of verifiers as suites: tasks and rewards of both contracts, and what is none refused by name."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from moevolve.cli.main import main
from moevolve.errors import UsageError
from moevolve.tasks import folder as suites
from moevolve.tasks import verifiers

CLASSIC = """
class Environment: pass
class MultiTurnEnv(Environment):
    def get_dataset(self): return self.rows
class SingleTurnEnv(MultiTurnEnv): pass
class ToolEnv(MultiTurnEnv): pass
class Parser:
    def parse_answer(self, completion): return completion[-1]["content"].strip()
class Rubric: pass


def right(completion, answer, parser): return float(parser.parse_answer(completion) == answer)
async def short(completion, **kwargs): return float(len(completion[-1]["content"]) < 4)
def noted(state, info): return float(info["even"] == (state["answer"] in "02468"))


def load_environment(most=6, turns=1):
    env = ToolEnv() if turns > 1 else SingleTurnEnv()
    env.system_prompt = "Answer with a number."
    env.rows = [{"question": f"{n} + 0 =", "answer": str(n), "info": {"even": n % 2 == 0}} for n in range(most)]
    env.rubric = Rubric()
    env.rubric.funcs, env.rubric.weights = [right, short, noted], [0.8, 0.2, 0.0]
    env.rubric.parser = Parser()
    return env
"""
TASKS = """
from types import SimpleNamespace

__all__ = ["Sums"]


class TasksetConfig:
    def __init__(self, most=5): self.most = most
class Taskset: pass
class Task:
    NEEDS_CONTAINER = {container}
    config = SimpleNamespace(judges=[])
    def __init__(self, n):
        self.data = SimpleNamespace(prompt=f"{{n}} + 0 =", system_prompt="Answer with a number.", n=n)
    @classmethod
    def toolsets(cls, config): return []
    def hooks(self, kind): return [self.right] if kind == "reward" else []
    async def right(self, trace): return trace.last_reply.strip() == str(self.data.n)
    async def score(self, trace, runtime=None):
        trace.rewards["right"] = None
        trace.record_metric("length", len(trace.last_message.content))
        trace.record_reward("right", await self.right(trace), 1.0)


class Sums(Taskset):
    __orig_bases__ = (SimpleNamespace(__args__=(TasksetConfig,)),)
    def __init__(self, config): self.config = config
    @classmethod
    def toolsets(cls, config): return []
    def load(self): return map(Task, range(self.config.most))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "old_sums.py").write_text(CLASSIC)
    (packages / "new_sums.py").write_text(TASKS.format(container=False))
    (packages / "boxed_sums.py").write_text(TASKS.format(container=True))
    (packages / "no_sums.py").write_text("x = 1\n")
    (packages / "broken_sums.py").write_text("import there_is_no_such_package\n")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return packages


@pytest.mark.parametrize("name", ["old-sums", "someone/new-sums@1.0"])
def test_an_environment_becomes_a_suite(installed: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / "sums"
    assert main(["init", "suite", str(out), "--verifiers", name, "--arguments", '{"most": 5}']) == 0
    suite = suites.load(out)
    [leaf] = suite.skills.values()
    assert leaf.listed is not None
    tasks = {task.prompt: task for level in leaf.listed.tasks.values() for task in level}
    assert sorted(tasks) == [f"{n} + 0 =" for n in range(5)]
    assert [message.role for message in tasks["2 + 0 ="].messages] == ["system", "user"]
    assert leaf.grade(tasks["2 + 0 ="], "2").success
    assert not leaf.grade(tasks["2 + 0 ="], "3").success


def test_rewards_are_weighed_and_kept_between_zero_and_one(installed: Path) -> None:
    check = verifiers.rewards("old-sums", {})
    task = {"messages": [], "answer": "12345", "info": {"even": False}, "task": "default"}
    assert check(task, "12345", None) == pytest.approx(0.8)
    assert check(task, "1", None) == pytest.approx(0.2)


def test_rewards_are_coroutines_that_need_no_socket(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("a grader's process has no sockets")

    check = verifiers.rewards("old-sums", {})
    monkeypatch.setattr(socket, "socketpair", refused)
    task = {"messages": [], "answer": "12345", "info": {"even": False}, "task": "default"}
    assert check(task, "12345", None) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("nothing-like-it", {}, "no module 'nothing_like_it' is installed"),
        ("no-sums", {}, "no environment of verifiers"),
        ("broken-sums", {}, "lacks a package.*there_is_no_such_package"),
        ("boxed-sums", {}, "need a container"),
        ("old-sums", {"turns": 3}, r"several turns \(ToolEnv\)"),
        ("old-sums", {"colour": 1}, "cannot be loaded: TypeError"),
        ("old-sums", {"most": 0}, "has no tasks"),
    ],
)
def test_what_is_no_suite_is_refused_by_name(
    installed: Path, name: str, arguments: dict[str, int], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        verifiers.write(name, tmp_path / "out", arguments)
