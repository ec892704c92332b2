"""Folders and files with blanks, dashes, dots and letters of any script: every command that takes an agent takes them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from command_line import Command

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import BAD, GOOD, adding, suite_files  # noqa: E402
from boxed import ASK, boxes  # noqa: E402

PROMPT = "my prömpts/system prompt 1.0.md"
AGENT = {
    "agent.toml": 'kind = "command"\nargv = ["python", "the agent.py"]\nedit = ["*.md"]\nimport = ["json"]\n',
    "the agent.py": f"{ASK}\nimport pathlib\n"
    f"print(say(sys.stdin.read() + pathlib.Path(__file__).with_name('x').parent.joinpath({PROMPT!r}).read_text()))\n",
    PROMPT: BAD,
    "-x.md": "Be kind. Be brief.\n",
    "提示.md": "x\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@boxes
def test_an_agents_way_from_its_folder_through_a_run_and_back(moevolve: Command, tmp_path: Path) -> None:
    write(tmp_path / "-agënt v1.2", AGENT)
    write(tmp_path / "mein Post é.1", suite_files(20))
    run = "läufe/run 1"
    with adding() as server:
        policy = ("--endpoint", server.url, "--model", "adder")
        words = (
            "--agent=-agënt v1.2",
            "--suite",
            "mein Post é.1",
            *policy,
            "--out",
            run,
            "--display",
            "none",
        )
        done = moevolve("run", "small", *words, "--cycles", "0")
        assert done.returncode == 0, done.stderr
        for command in (
            ("diff", run, "seed", "champion"),
            ("export", run, "--program", "out/a b"),
            ("export", run, "--agent=-out"),
        ):
            assert (done := moevolve(*command)).returncode == 0, done.stderr
        taken = {
            path.relative_to(tmp_path / "-out").as_posix(): path.read_text()
            for path in (tmp_path / "-out").rglob("*")
            if path.is_file()
        }
        assert taken == AGENT
        (tmp_path / "-out" / PROMPT).write_text(GOOD)
        done = moevolve("eval", "mein Post é.1", "--agent=-out", *policy, "--split", "train")
        assert "agent: 1.000" in done.stdout, done.stderr
        imported = moevolve("import", run, "--", "-out")
        assert imported.returncode == 0, imported.stderr
        again = moevolve("replay", run)
        assert again.returncode == 0 and "the same head" in again.stdout, again.stderr


def test_init_writes_into_any_folder_and_says_what_to_type_next(moevolve: Command, tmp_path: Path) -> None:
    for name in ("my first agent", "агент 1.2", "-dash"):
        written = moevolve("init", "agent", "--", name)
        assert written.returncode == 0 and (tmp_path / name / "solve.py").is_file()
        [command] = re.findall("`moevolve (eval .*?)`", written.stderr)
        folder = shlex.split(command)[-1]
        assert (tmp_path / folder).samefile(tmp_path / name) and not folder.startswith("-")


@pytest.mark.parametrize(
    ("name", "said"),
    [("a*.md", "holds '*'"), ("line\n.md", "cannot be seen"), (" x.md", "begin or end with a blank")],
)
def test_a_name_that_cannot_be_is_refused_at_the_door(
    name: str, said: str, moevolve: Command, tmp_path: Path
) -> None:
    write(tmp_path / "agent", {"solve.py": "async def solve(task, agent):\n    return ''\n", name: "x\n"})
    write(tmp_path / "suite", suite_files(6))
    refused = moevolve("run", "small", "--agent", "agent", "--suite", "suite", "--out", "run")
    assert refused.returncode == 2 and said in refused.stderr and not (tmp_path / "run").exists()
