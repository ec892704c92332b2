"""The suite `user` is of the program that defines it; where one file does, the run keeps that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from command_line import Command  # noqa: E402

SKILLS = """
import moevolve as mv

@mv.skill("say/it", levels=(1, 1))
def it(rng, level):
    word = str(rng.randint(1, 10**6))
    return mv.Task(prompt=f"Repeat {word}.", answer=word)
"""
BEGUN = """
import moevolve as mv, skills
mv.evolve("small", out="run", cycles=0, settings={"suite": {"name": "user", "levels": [1, 1]}}).wait()
"""


def test_a_run_on_an_imported_module_is_the_command_lines_too(tmp_path: Path, moevolve: Command) -> None:
    (tmp_path / "skills.py").write_text(SKILLS)
    subprocess.run([sys.executable, "-c", BEGUN], cwd=tmp_path, check=True)
    (tmp_path / "skills.py").write_text("raise SystemExit('it is not read any more')")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "elsewhere" / "run")
    for command in ("replay", "resume"):
        done = moevolve(command, "elsewhere/run")
        assert done.returncode == 0, done.stderr


def test_a_run_file_that_says_user_finds_the_skills_beside_it(tmp_path: Path, moevolve: Command) -> None:
    settings = ("small", "--set=suite.name=user", "--set=suite.levels=[1,1]", "--cycles=0", "--out=run")
    done = moevolve("run", *settings)
    assert done.returncode == 2 and "name the file that defines skills" in done.stderr
    (tmp_path / "skills.py").write_text(SKILLS)
    assert moevolve("run", *settings).returncode == 0
    assert json.loads(moevolve("show", "run", "--json").stdout)["suite"] == "user"


def test_skills_that_no_file_defines_alone_stay_with_their_program(tmp_path: Path) -> None:
    (tmp_path / "skills.py").write_text(SKILLS.replace("import moevolve", "import words\nimport moevolve"))
    (tmp_path / "words.py").write_text("")
    asks = BEGUN + "\nprint(mv.replay('run').equal)"
    done = subprocess.run(
        [sys.executable, "-c", asks], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "True\n" and not (tmp_path / "run" / "suite").exists()
