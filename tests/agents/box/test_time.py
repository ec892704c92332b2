"""How long an attempt in a box may take: what the run's file says and what the agent says are in force, the stricter one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from adding_endpoint import adding, suite_files  # noqa: E402
from boxed import Model, boxes, command, host, tasks  # noqa: E402
from command_line import call  # noqa: E402

from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.agents.manifest import manifest_of  # noqa: E402
from moevolve.config import Config  # noqa: E402
from moevolve.loop.own_agent import with_asked  # noqa: E402

SLEEPS = "import time\ntime.sleep(100)\n"


@boxes
@pytest.mark.parametrize(
    ("role", "own", "says"),
    [
        (0.5, 60, "roles.solver.seconds"),
        (60, 0.5, "limits.seconds of agent.toml"),
        (0.5, None, "roles.solver.seconds"),
        (None, 0.5, "limits.seconds of agent.toml"),
    ],
)
def test_the_stricter_limit_ends_an_attempt_and_is_named(
    role: float | None, own: float | None, says: str
) -> None:
    genome = command(SLEEPS, limits={} if own is None else {"seconds": own})
    [outcome] = host(seconds=role).solve(genome, tasks(1), Model(), None, [1])
    assert outcome.failure == "timeout"
    assert outcome.detail == f"it took more than 0.5 s, the policy's time left out ({says} says so)"


@pytest.mark.parametrize("kind", ["command", "function"])
@pytest.mark.parametrize(
    ("role", "own", "in_force"),
    [(30, 60, 30), (60, 30, 30), (300, None, 300), (None, 30, 30), (60, None, 60)],
)
def test_what_is_in_force_is_on_record(
    kind: str, role: float | None, own: float | None, in_force: float
) -> None:
    head = 'kind = "command"\nargv = ["x"]\n' if kind == "command" else ""
    text = head if own is None else f"{head}[limits]\nseconds = {own}\n"
    files = {"agent.toml": text, "solve.py": "async def solve(task, agent):\n    return ''\n"}
    config = Config.load("small", {} if role is None else {"roles.solver.seconds": role})
    assert with_asked(config, Genome(files=files)).roles.solver.most_seconds == in_force


@pytest.mark.parametrize(("head", "seconds"), [("", 60), ('kind = "command"\nargv = ["x"]\n', 120)])
def test_where_nobody_names_one(head: str, seconds: float) -> None:
    genome = Genome(files={"agent.toml": head})
    assert manifest_of(genome.files).limits.seconds is None
    assert with_asked(Config.load("small"), genome).roles.solver.most_seconds == seconds


@boxes
def test_the_command_line_sets_it(tmp_path: Path) -> None:
    for name, text in {**suite_files(6), "agent/agent.py": SLEEPS}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "agent/agent.toml").write_text('kind = "command"\nargv = ["python", "agent.py"]\n')
    for name in ("tasks.jsonl", "check.py", "files"):
        (tmp_path / "suite").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "suite" / name)
    with adding() as server:
        words = ("--agent", "agent", "--endpoint", server.url, "--model", "adder")
        limit = ("--set", "roles.solver.seconds=0.5", "--attempts", "attempts.jsonl")
        done = call(tmp_path, "eval", "suite", *words, *limit)
    assert done.returncode == 0 and "timeout" in done.stdout, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    agents = [row for row in rows if row["who"] == "agent"]
    assert agents and all("roles.solver.seconds" in row["detail"] for row in agents)
