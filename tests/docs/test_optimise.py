"""docs/optimise.md, typed as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from moevolve.loop.optimise.proposers import OPERATORS
from moevolve.tasks.evaluators.verdict import FAILURES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/optimise.md").read_text(encoding="utf-8")
NAMED = re.compile(r"^`(bowl/[\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.M | re.S)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()
]


def test_the_path_is_walked_to_its_end(tmp_path: Path) -> None:
    found = dict(NAMED.findall(PAGE))
    assert set(found) == {"bowl/initial_program.py", "bowl/evaluator.py", "bowl/config.yaml"}
    (tmp_path / "bowl").mkdir()
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    said: dict[str, str] = {}
    for command in COMMANDS:
        words = [sys.executable, "-m", "moevolve.cli.main", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        said[words[3]] = done.stdout
    assert "80 evaluations" in said["show"] and "score 0.16666667 to" in said["show"]
    assert "-X = 3.0" in said["diff"] or "-Y = -2.0" in said["diff"]
    assert "the same head" in said["replay"]


def test_every_failure_and_proposer_is_explained() -> None:
    for name in (*FAILURES, *OPERATORS, "duplicate", "rejected"):
        assert f"`{name}`" in PAGE, name
