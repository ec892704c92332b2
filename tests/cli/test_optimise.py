"""`run --openevolve` and `--shinka`, and what other commands say of such runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

import moevolve as mv

FOLDERS = Path(__file__).parents[1] / "fixtures" / "evaluators"


def test_a_run_from_the_command_line(moevolve: Command, tmp_path: Path) -> None:
    done = moevolve(
        "run", "--openevolve", FOLDERS / "valley", "--evaluations", "25", "--out", "out", "--display", "none"
    )
    assert done.returncode == 0, done.stderr
    assert "25 evaluations" in done.stdout and "without effect here: allow_full_rewrites" in done.stderr
    shown = json.loads(moevolve("show", "out", "--json").stdout)
    assert (
        shown["evaluations"] == 25
        and shown["final"] >= shown["initial"] > 0.9
        and shown["status"] == "finished"
    )
    assert mv.Run.attach(tmp_path / "out").summary == shown
    assert "has finished" in moevolve("resume", "out", "--display", "none").stderr
    assert "it has the evaluations that it began with" in moevolve("resume", "out", "--cycles", "+2").stderr
    assert moevolve("report", "out").returncode == 0
    rounded = f"{shown['final']:.6g}"
    assert rounded in moevolve("ls", ".").stdout and rounded in moevolve("compare", "out").stdout
    [compared] = json.loads(moevolve("compare", "out", "--json").stdout)
    assert compared["score"] == shown["score"] and compared["score"]["gain"] > 0
    assert compared["promotions"]["program"] == {
        "proposed": shown["programs"] - 1,
        "accepted": shown["promoted"],
    }
    [arm] = json.loads(moevolve("compare", "out", "--arms", "--json").stdout)
    assert (
        arm["final"]["mean"] == pytest.approx(shown["final"]) and arm["promotions"] == shown["promoted"] > 0
    )
    assert rounded in moevolve("compare", "out", "--arms").stdout
    for option in ("--agent", "--improver", "--weights"):
        refused = moevolve("export", "out", option, "made")
        assert refused.returncode == 2 and option in refused.stderr and "--program" in refused.stderr
        assert not (tmp_path / "made").exists()
    assert moevolve("export", "out", "--program", "made").returncode == 0


def test_a_run_most_of_whose_evaluations_fail_says_so(moevolve: Command, tmp_path: Path) -> None:
    path = tmp_path / "problem"
    path.mkdir()
    (path / "initial_program.py").write_text("X = 1\nY = 2\n")
    (path / "evaluator.py").write_text("def evaluate(path):\n    return {'combined_score': 'very good'}\n")
    done = moevolve("run", "--openevolve", path, "--evaluations", "6", "--out", "out", "--display", "none")
    assert done.returncode == 1 and "6 of 6 evaluations failed" in done.stderr
    assert "wrong_type 6" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--openevolve", "nowhere"], "there is no folder nowhere"),
        (["--openevolve", FOLDERS / "valley", "--shinka", FOLDERS / "sines-shinka"], "exclude each other"),
        (["--openevolve", FOLDERS / "valley", "--cycles", "3"], "--cycles does not go with"),
        (["--openevolve", FOLDERS / "valley", "--device", "cpu"], "--device does not go with"),
        (["--openevolve", FOLDERS / "valley", "--set", "limits.second=3"], "second"),
        (
            ["--openevolve", FOLDERS / "valley", "--evaluator-config", "/etc/hostname"],
            "cannot be read|holds no table|does not lie",
        ),
        (["small", "--workers", "3"], "--workers goes with --openevolve"),
        (["--shinka", FOLDERS / "sines-shinka", "--proposer", "luck"], "no proposer 'luck'"),
    ],
)
def test_what_does_not_go_together(moevolve: Command, words: list[str], said: str) -> None:
    import re

    done = moevolve("run", *words)
    assert done.returncode == 2 and re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
