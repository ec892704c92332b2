"""The newcomer's path of docs/agents.md, typed as it stands, against a model that a server plays."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures"))

from boxed import MISSING  # noqa: E402
from scripted_endpoint import MODEL, serving  # noqa: E402

PAGE = (ROOT / "docs/agents.md").read_text(encoding="utf-8")
NAMED = re.compile(r"^`(\w+/[\w./]+)`[^\n]*(?:\n(?!```)[^\n]*)*?\n\n?```\w+\n(.*?)^```$", re.M | re.S)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()
]


def files() -> dict[str, str]:
    """The files that the page names before it shows them; `tasks.jsonl` is shown as the script that writes it."""
    return {name: text for name, text in NAMED.findall(PAGE) if name != "mail/tasks.jsonl"}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    for name, text in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    script = next(
        block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if "GOODS" in block
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    return tmp_path


def test_the_page_shows_an_agent_of_two_files_and_thirty_examples(desk: Path) -> None:
    assert set(files()) == {
        "mine/solve.py", "mine/prompts/system.md", "mine/agent.toml",
        "mail/check.py", "mail/tools.py", "mail/suite.toml",
        "script/agent.toml", "script/agent.py", "script/prompts/system.md",
    }  # fmt: skip
    assert len((desk / "mail/tasks.jsonl").read_text().splitlines()) == 30


@pytest.mark.long
def test_the_path_is_walked_to_its_end(desk: Path) -> None:
    said: dict[str, str] = {}
    with serving() as server:
        for command in COMMANDS:
            if MISSING and "script" in command:
                continue  # Nothing of the kind runs on such a machine.
            words = shlex.split(
                command.replace("http://127.0.0.1:8000/v1", server.url).replace("NAME", MODEL)
            )
            done = subprocess.run(
                [sys.executable, "-m", "moevolve.cli.main", *words[1:]],
                cwd=desk,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            said[words[1]] = done.stdout + done.stderr
    assert "a gain of +0.79 or more" in said["validate"]
    assert "cannot show less than" in said["run"]
    assert MISSING or "re-graded" in said["replay"]
    assert (desk / "better/solve.py").is_file()
