"""MCP servers as a suite's tools: over stdio and HTTP, one for each attempt where they remember, and on record."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")

import moevolve as mv
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.loop.tools import RecordedTools
from moevolve.protocol.requests import ToolRequest
from moevolve.tasks.tools.process import CallFailed
from moevolve.tasks.tools.servers import Server, ServerSection
from moevolve.tasks.tools.toolbox import Tools

COUNTER = Path(__file__).parents[1] / "fixtures" / "mcp_counter.py"
OWN = 'command = ["python", "mcp_counter.py"]\nstate = "attempt"\n'


def request(tool: str, session: int = 1, key: int = 1, **arguments: object) -> ToolRequest:
    return ToolRequest(attempt=0, tool=tool, arguments=arguments, key=key, session=session)


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Tools]:
    """Tools of a server that remembers, one for each attempt."""
    shutil.copy(COUNTER, tmp_path)
    section = ServerSection(command=("python", "mcp_counter.py"), state="attempt", env=("COUNTER_TOKEN",))
    made = Tools(servers={"counter": section}, folder=tmp_path)
    yield made
    made.close()


def test_tools_are_described_as_models_are_offered_them(tools: Tools) -> None:
    found = {tool.name: tool for tool in tools.tools}
    assert set(found) == {"note", "notes", "add", "fail", "die", "secret"}
    assert found["add"].description == "The sum of two numbers."
    assert set(found["add"].parameters["properties"]) == {"a", "b"}


def test_each_attempt_has_a_server_of_its_own_until_it_ends(tools: Tools) -> None:
    assert [tools.call(request("note", 1, text=text)) for text in "ab"] == [1, 2]
    assert tools.call(request("note", 2, text="c")) == 1
    assert tools.call(request("notes", 1)) == ["a", "b"]
    tools.release([1])
    assert tools.call(request("notes", 1)) == []
    assert tools.call(request("notes", 2)) == ["c"]


def test_failures_of_a_tool_are_told_and_leave_the_server_as_it_was(tools: Tools) -> None:
    tools.call(request("note", text="a"))
    with pytest.raises(CallFailed, match="no luck"):
        tools.call(request("fail", reason="no luck"))
    with pytest.raises(CallFailed):
        tools.call(request("add", a="many"))
    assert tools.call(request("notes")) == ["a"]


RUDE = Path(__file__).parents[1] / "fixtures" / "mcp_rude.py"


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("malformed", "content"),
        ("other", "'many' is not of type 'integer'"),
        ("missing", "did not return structured content"),
    ],
)
def test_a_result_that_is_none_is_a_failure_and_the_server_stays_as_it_was(tool: str, message: str) -> None:
    rude = Tools(servers={"rude": ServerSection(command=("python", str(RUDE)), state="attempt")})
    try:
        assert rude.call(request("count")) == "1"
        with pytest.raises(CallFailed, match=message) as failed:
            rude.call(request(tool))
        assert not failed.value.lost
        assert rude.call(request("count")) == "3"
    finally:
        rude.close()


def test_a_server_that_offers_no_tools_of_the_protocol_is_named() -> None:
    rude = Tools(servers={"rude": ServerSection(command=("python", str(RUDE), "listed"))})
    with pytest.raises(UsageError, match="'rude' cannot be used"):
        _ = rude.tools
    rude.close()


def test_a_server_that_dies_comes_back_with_what_it_knew(tools: Tools) -> None:
    tools.call(request("note", text="a"))
    with pytest.raises(CallFailed):
        tools.call(request("die"))
    assert tools.call(request("notes")) == ["a"]


def test_a_server_gets_the_variables_that_are_named_and_no_others(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tools.call(request("secret", 1)) == "nothing"
    monkeypatch.setenv("COUNTER_TOKEN", "known")
    assert tools.call(request("secret", 2)) == "known"


def test_what_cannot_be_started_or_is_not_one_thing_is_refused(tmp_path: Path) -> None:
    gone = Tools(servers={"gone": ServerSection(command=("python", "missing.py"))}, folder=tmp_path)
    with pytest.raises(UsageError, match="'gone' cannot be used"):
        _ = gone.tools
    gone.close()
    with pytest.raises(ValueError, match="either a `command` or a `url`"):
        ServerSection()


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    shutil.copy(COUNTER, tmp_path)
    (tmp_path / "tools.py").write_text("def add(a: int, b: int) -> int:\n    return a\n")
    section = ServerSection(command=("python", "mcp_counter.py"))
    both = Tools([tmp_path / "tools.py"], {"counter": section}, tmp_path)
    with pytest.raises(UsageError, match="both offer a tool 'add'"):
        _ = both.tools
    both.close()


def test_a_server_is_reached_over_http(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(COUNTER), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    tools = Tools(servers={"counter": ServerSection(url=f"http://127.0.0.1:{port}/mcp")})
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
        assert tools.call(request("add", a=2, b=3)) == 5
    finally:
        tools.close()
        process.kill()
        process.wait()


def test_calls_are_on_record_and_an_attempt_that_goes_on_finds_its_server_as_it_was(
    tools: Tools, tmp_path: Path
) -> None:
    with RunStore.create(tmp_path / "run") as store:
        first = RecordedTools(tools, tools.tools, store)
        assert first.call([request("note", key=1, text="a"), request("note", key=2, text="b")]) == [1, 2]
        tools.close()
        tools.release([1])  # The process was killed here; another one goes on.
        again = RecordedTools(tools, tools.tools, store)
        assert again.call([request("note", key=1, text="a"), request("note", key=2, text="b")]) == [1, 2]
        assert again.call([request("notes", key=3)]) == [["a", "b"]]


SOLVE = """
async def solve(task, agent):
    offered = await agent.tools("kept text")
    assert [each["function"]["name"] for each in offered] == ["notes", "note"], offered
    word = task.prompt[4:-1]
    for letter in word:
        await agent.call("note", text=letter)
    return "".join(reversed(await agent.call("notes")))
"""


def test_a_run_on_a_suite_with_a_server_is_replayed_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, agent, run = tmp_path / "words", tmp_path / "agent", tmp_path / "run"
    suite.mkdir()
    agent.mkdir()
    shutil.copy(COUNTER, suite)
    words = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st", "uv", "wx"]
    rows = [{"id": word, "prompt": f"rev:{word}=", "answer": word[::-1]} for word in words]
    (suite / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (suite / "suite.toml").write_text(f"[mcp.counter]\n{OWN}")
    (agent / "solve.py").write_text(SOLVE)
    settings = {"gate": {"min_n": 2, "max_n": 4, "batch": 2}, "guard.use": []}
    done = mv.evolve(
        "small", out=run, cycles=0, arm="program", suite=suite, agent=agent, settings=settings
    ).wait()
    assert done.score is not None and done.score.mean == 1.0

    def refused(server: Server) -> None:
        raise AssertionError("a replay asks no server")

    monkeypatch.setattr(Server, "_open", refused)
    assert mv.replay(run).equal
