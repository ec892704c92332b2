"""First edits of an agent that no model proposes: what a check says of failed train attempts reaches its prompt."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from command_line import Command

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import ALONE, BAD, adding, suite_files  # noqa: E402

from moevolve.proposers.operators.errors import MISTAKES  # noqa: E402

AGENT = """async def solve(task, agent):
    system = {"role": "system", "content": agent.files["prompts/system.md"]}
    return (await agent.generate([system, *task.messages], temperature=0)).text
"""
CHECK = f"""from moevolve import Verdict


def check(task, answer, workspace):
    if answer.strip() == task["total"]:
        return 1.0
    return Verdict(score=0.0, success=False, failure="long-winded", detail="say the {ALONE}")
"""


def test_a_prompt_that_names_the_checks_complaint_is_promoted(moevolve: Command, tmp_path: Path) -> None:
    agent = {"agent.toml": 'edit = ["prompts/*.md"]\n', "solve.py": AGENT, "prompts/system.md": BAD}
    suite = suite_files(60) | {"check.py": CHECK}
    for folder, files in (("agent", agent), ("suite", suite)):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    settings = {"evolve.candidates": 6, "evolve.screen": 4, "attempts.tasks": 8, "seed": 3}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with adding() as server:
        policy = ("--endpoint", server.url, "--model", "adder")
        where = ("--cycles", "1", "--out", "run", "--display", "none")
        done = moevolve("run", "small", "--agent", "agent", "--suite", "suite", *policy, *words, *where)
    assert done.returncode == 0, done.stderr
    told = json.loads(moevolve("diff", "run", "seed", "champion", "--json").stdout)["diff"]
    assert f"+{MISTAKES}" in told and f"+- say the {ALONE}" in told
