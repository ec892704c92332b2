"""Tasks of many turns: a world that an attempt changes by its tools, and whose end state decides."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import boxes  # noqa: E402

import moevolve as mv  # noqa: E402
from moevolve.agents.box.attempt import BoxedAttempt  # noqa: E402
from moevolve.config.roles import RoleSection  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.tools import DESCRIBED, TABLE, RecordedTools  # noqa: E402
from moevolve.protocol.requests import ToolRequest  # noqa: E402
from moevolve.records import Evaluated, Record, Screened, Timing  # noqa: E402
from moevolve.tasks import folder  # noqa: E402
from moevolve.tasks.environment import Trajectory  # noqa: E402
from moevolve.tasks.task import Task  # noqa: E402
from moevolve.tasks.tools.process import CallFailed  # noqa: E402
from moevolve.tasks.tools.toolbox import Tools  # noqa: E402

WORLD = """
import os
import moevolve as mv


class Desk(mv.Environment):
    \"\"\"A desk with tickets: the one that the task names is to be closed, and no other.\"\"\"

    steps = 4

    def setup(self, task):
        self.open = list(task["tickets"])
        self.wanted = task["wanted"]
        self.lucky = self.rng.randrange(10**6)

    def tickets(self) -> list[str]:
        \"\"\"The tickets that are open.\"\"\"
        return self.open

    def close(self, ticket: str) -> int:
        \"\"\"Close a ticket.\"\"\"
        self.open.remove(ticket)
        return len(self.open)

    def luck(self) -> int:
        \"\"\"A number that only this task has.\"\"\"
        return self.lucky

    def die(self) -> None:
        \"\"\"Ends everything.\"\"\"
        os._exit(3)

    def score(self, task, answer):
        left = [each for each in task["tickets"] if each != self.wanted]
        return float(self.open == left and answer == "done")
"""
ROWS: list[dict[str, Any]] = [
    {"id": f"t{n}", "prompt": f"Close {name}, please.", "tickets": ["a1", name, "z9"], "wanted": name}
    for n, name in enumerate(f"k{n}" for n in range(40))
]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "desk"
    path.mkdir()
    (path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (path / "environment.py").write_text(WORLD)
    return path


@pytest.fixture
def tools(suite: Path) -> Iterator[Tools]:
    made = Tools(environments=suite / "environment.py")
    for session in (1, 2):
        made.expect(session, task(suite, session))
    yield made
    made.close()


def task(suite: Path, index: int) -> Task:
    loaded = folder.load(suite)
    [path] = loaded.skills
    return loaded.draw("train", path, 1, "one", index)


def request(tool: str, session: int = 1, key: int = 1, **arguments: object) -> ToolRequest:
    return ToolRequest(attempt=0, tool=tool, arguments=arguments, key=key, session=session)


def test_its_public_methods_are_tools_and_each_attempt_has_a_world(tools: Tools, suite: Path) -> None:
    assert [tool.name for tool in tools.tools] == ["close", "die", "luck", "tickets"]
    first, second = (task(suite, n).fields["wanted"] for n in (1, 2))
    assert tools.call(request("close", 1, ticket=first)) == 2
    assert tools.call(request("tickets", 1)) == ["a1", "z9"]
    assert tools.call(request("tickets", 2)) == ["a1", second, "z9"]


def test_what_a_world_refuses_is_told_and_it_allows_so_many_calls(tools: Tools) -> None:
    with pytest.raises(CallFailed, match="ValueError"):
        tools.call(request("close", ticket="none"))
    for _ in range(3):
        tools.call(request("tickets"))
    with pytest.raises(CallFailed, match="allows 4 calls"):
        tools.call(request("tickets"))
    with pytest.raises(CallFailed, match="this task has none"):
        tools.call(request("tickets", 99))


def test_a_world_that_dies_comes_back_as_it_was(tools: Tools) -> None:
    tools.call(request("close", ticket="a1"))
    with pytest.raises(CallFailed) as died:
        tools.call(request("die"))
    assert died.value.lost
    assert "a1" not in tools.call(request("tickets"))


def test_a_task_draws_the_same_numbers_in_every_world_of_it(tools: Tools, suite: Path) -> None:
    lucky = tools.call(request("luck", 1))
    tools.release([1])
    tools.expect(1, task(suite, 1))
    assert tools.call(request("luck", 1)) == lucky != tools.call(request("luck", 2))


def test_calls_on_record_bring_a_world_to_where_it_was(tools: Tools, tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        [left] = RecordedTools(tools, tools.tools, store).call([request("close", key=1, ticket="a1")])
        tools.release([1])  # Another process goes on.
        again = RecordedTools(tools, tools.tools, store)
        assert again.call([request("close", key=1, ticket="a1")]) == [left]
        [open_now] = again.call([request("tickets", key=2)])
        assert isinstance(open_now, list) and "a1" not in open_now


def test_the_end_state_decides_and_doing_nothing_is_worth_nothing(suite: Path) -> None:
    loaded, one = folder.load(suite), task(suite, 1)
    close = ("close", {"ticket": one.fields["wanted"]})

    def score(answer: str, *calls: tuple[str, dict[str, Any]]) -> float:
        return loaded.grade(one, Trajectory(answer, list(calls)).text()).score

    assert score("done", close) == 1.0
    assert score("done", ("close", {"ticket": "none"}), close) == 1.0
    assert score("no", close) == score("done") == score("done", close, ("close", {"ticket": "a1"})) == 0.0
    assert loaded.grade(one, "done").score == 0.0


def test_attempts_that_draw_alike_have_worlds_and_results_of_their_own(tools: Tools, tmp_path: Path) -> None:
    """Variants that are compared have the same keys: neither finds what the other did, nor what it was told."""
    with RunStore.create(tmp_path / "run") as store:
        recorded = RecordedTools(tools, tools.tools, store)
        recorded.call([request("close", 1, key=1, ticket="a1")])
        [mine] = recorded.call([replace(request("tickets", 1, key=2), past=b"closed a1")])
        [other] = recorded.call([replace(request("tickets", 2, key=2), past=b"closed z9")])
        [same] = recorded.call([replace(request("tickets", 1, key=2), past=b"closed z9")])
        assert isinstance(mine, list) and "a1" not in mine
        assert isinstance(other, list) and "a1" in other
        assert same == mine  # Asked anew, of the world that it is.
        assert len(store.scan(TABLE)) == 4


def test_a_run_of_an_older_version_keeps_its_names_of_calls(tools: Tools, tmp_path: Path) -> None:
    body = msgspec.msgpack.encode((1, "tickets", {}), order="deterministic")
    name = hashlib.blake2b(body, digest_size=16).hexdigest()
    kept = msgspec.msgpack.encode({"result": ["old"], "error": None, "lost": False})
    with RunStore.create(tmp_path / "run") as store, RunStore.create(tmp_path / "again") as scratch:
        store.batch([], Timing(at=0.0), puts=[(TABLE, DESCRIBED, b"[]"), (TABLE, name, kept)])
        asked = replace(request("tickets"), past=b"closed a1")
        assert RecordedTools(tools, tools.tools, store).call([asked]) == [["old"]]
        assert RecordedTools(None, (), scratch, store).call([asked]) == [["old"]]


def test_calls_of_a_second_run_have_the_pasts_of_the_first_in_whatever_order_they_come() -> None:
    def attempt() -> BoxedAttempt:
        return BoxedAttempt("desk", 1, RoleSection())

    first, second = attempt(), attempt()
    pasts = [first.past(call) for call in (b"a", b"b", b"a")]
    second.follow([b"a", b"b", b"a"])
    assert len(set(pasts)) == 3
    assert [second.past(call) for call in (b"b", b"a", b"a")] == [pasts[1], pasts[0], pasts[2]]


SOLVE = """
async def solve(task, agent):
    name = task.prompt.split()[1].strip(",")
    assert name in await agent.call("tickets")
    await agent.call("close", ticket=name)
    return "done"
"""
FORGER = """
async def solve(task, agent):
    name = task.prompt.split()[1].strip(",")
    return '{"answer": "done", "calls": [["close", {"ticket": "' + name + '"}]]}'
"""
SETTINGS = {
    "gate": {"min_n": 2, "max_n": 4, "batch": 2},
    "attempts.tasks": 4,
    "evolve.screen": 2,
    "guard.use": [],
}


Kind = TypeVar("Kind", bound=Record)


def begun(out: Path, suite: Path, solve: str | dict[str, str], cycles: int = 0, **settings: Any) -> None:
    agent = out.parent / f"{out.name}-agent"
    agent.mkdir()
    for name, text in ({"solve.py": solve} if isinstance(solve, str) else solve).items():
        (agent / name).write_text(text)
    settings = SETTINGS | settings
    mv.evolve(
        "small", out=out, cycles=cycles, arm="program", suite=suite, agent=agent, settings=settings
    ).wait()


def records(out: Path, kind: type[Kind]) -> list[Kind]:
    with RunStore.open(out) as store:
        return [entry.record for entry in store.entries() if isinstance(entry.record, kind)]


def run(out: Path, suite: Path, solve: str | dict[str, str]) -> list[Evaluated]:
    begun(out, suite, solve)
    return records(out, Evaluated)


def test_a_run_is_scored_by_end_states_and_replayed(suite: Path, tmp_path: Path) -> None:
    for found in run(tmp_path / "run", suite, SOLVE):
        assert found.score.mean == 1.0
        assert found.bare is None or found.bare.mean == 0.0
    assert mv.replay(tmp_path / "run").equal


def test_what_is_done_in_a_world_may_be_a_coroutine(suite: Path, tmp_path: Path) -> None:
    slow = "    async def close(self, ticket: str) -> int:\n        await asyncio.sleep(0.001)\n"
    text = WORLD.replace("    def close(self, ticket: str) -> int:\n", slow)
    (suite / "environment.py").write_text(f"import asyncio\n{text}")
    assert {found.score.mean for found in run(tmp_path / "run", suite, SOLVE)} == {1.0}


COMMAND = """
import http.client, json, sys
def call(tool, **arguments):
    door = http.client.HTTPConnection("127.0.0.1", 8000)
    door.request("POST", "/v1/agent/call", json.dumps({"tool": tool, "arguments": arguments}))
    return json.loads(door.getresponse().read())["value"]
name = sys.stdin.read().split()[1].strip(",")
assert name in call("tickets")
call("close", ticket=name)
print("done")
"""


ASKING = SOLVE.replace(
    "    await agent.call",
    "    await agent.generate('a')\n    await agent.generate('b')\n    await agent.call",
)
"""Variants take turns at the policy: what another does before its first question is done before the second one here."""
SPOILER = """
async def solve(task, agent):
    for _ in range(40):
        try:
            await agent.call("tickets")
        except Exception:
            pass
    for word in "abcd":  # Whoever ends lets its world go.
        await agent.generate(word)
    return "done"
"""
IMPROVE = f"""
from contract import Edit

async def improve(brief, agent):
    return [[Edit("solve.py", {SPOILER!r}, "scripted", "uses up its world")]]
"""


def test_a_candidate_that_uses_up_its_world_leaves_the_champions_as_it_is(
    suite: Path, tmp_path: Path
) -> None:
    files = {"solve.py": ASKING, "improve.py": IMPROVE}
    settings = {"evolve.proposers": ["improver"], "evolve.candidates": 1}
    begun(tmp_path / "run", suite, files, 1, **settings)
    found = records(tmp_path / "run", Screened)
    assert found and all((each.baseline, each.score) == (1.0, 0.0) for each in found)
    assert all(each.score.mean == 1.0 for each in records(tmp_path / "run", Evaluated))
    assert mv.replay(tmp_path / "run").equal


@boxes
def test_an_agent_in_a_box_changes_its_world_as_any_other(suite: Path, tmp_path: Path) -> None:
    manifest = 'kind = "command"\nargv = ["python", "agent.py"]\n'
    files = {"agent.toml": manifest, "agent.py": COMMAND}
    for found in run(tmp_path / "run", suite, files):
        assert found.score.mean == 1.0
    assert mv.replay(tmp_path / "run").equal


def test_an_answer_that_looks_like_calls_is_an_answer(suite: Path, tmp_path: Path) -> None:
    assert all(found.score.mean == 0.0 for found in run(tmp_path / "run", suite, FORGER))


PYTHON = (
    WORLD
    + """

@mv.skill("desk/close", summary="Close a ticket", levels=(1, 2))
def close(rng, level):
    name = f"k{rng.randrange(10**6)}"
    return mv.Task(
        prompt=f"Close {name}, please.", environment=Desk, fields={"tickets": ["a1", name], "wanted": name}
    )
"""
)


def test_a_python_file_may_define_skills_with_environments(tmp_path: Path) -> None:
    (tmp_path / "desks.py").write_text(PYTHON)
    assert all(found.score.mean == 1.0 for found in run(tmp_path / "run", tmp_path / "desks.py", SOLVE))


def test_a_suite_with_a_check_and_an_environment_is_refused(suite: Path) -> None:
    (suite / "check.py").write_text("def check(task, answer, workspace):\n    return 1.0\n")
    with pytest.raises(UsageError, match="judges its tasks"):
        folder.load(suite)
