"""How long a prompt may be: what the file says is in force, whatever it says; what it leaves out depends on the agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.loop.own_agent import BOXED_PROMPT
from moevolve.loop.resolve import with_files

BOXED = 'kind = "command"\nargv = ["python3", "agent.py"]\n'


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, BOXED_PROMPT),
        ({"roles.solver.prompt_chars": 2048}, 2048),
        ({"roles.solver.prompt_chars": 77}, 77),
    ],
)
def test_an_agent_in_a_box_has_long_prompts_unless_the_file_says_how_long(
    tmp_path: Path, settings: dict[str, int], limit: int
) -> None:
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "agent.toml").write_text(BOXED)
    (agent / "agent.py").write_text("print(input())\n")
    tasks = [{"id": str(n), "prompt": f"Say {n}.", "answer": str(n)} for n in range(8)]
    (tmp_path / "said").mkdir()
    (tmp_path / "said" / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in tasks))
    own = {"agent.path": str(agent), "suite.path": str(tmp_path / "said")}
    config = with_files(Config.load("small", {**settings, **own}))
    assert config.roles.solver.longest_prompt == limit
    with pytest.raises(UsageError, match="suite primer takes answers of the policy alone"):
        with_files(Config.load("small", {"agent.path": str(agent)}))


def test_a_program_has_short_ones() -> None:
    assert with_files(Config.load("small")).roles.solver.longest_prompt == 2048
