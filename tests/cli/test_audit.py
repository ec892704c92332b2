"""`moevolve audit`: exit codes, JSON, and one page that fits on a screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Recorded

import moevolve as mv
from moevolve.cli.main import main
from moevolve.config import Config
from moevolve.loop.run import start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(Config.load("small").override(seed=3, cycles=1), tmp_path_factory.mktemp("audit") / "run")


def test_a_clean_run_is_one_page_and_exit_code_0(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "nothing on file contradicts anything else" in shown
    assert len(shown.splitlines()) < 40


def test_json_has_stable_fields(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(finished), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        *("path", "run", "decision", "state", "complete", "answers", "rules", "ok", "mismatches", "findings"),
        *(
            "chain",
            "contents",
            "seal",
            "decisions",
            "alpha",
            "sealed",
            "score",
            "budgets",
            "champion",
            "programs",
        ),
    }
    assert report["ok"] and report["seal"]["intact"] and report["chain"]["entries"] > 10
    assert {"record", "candidate", "recomputed", "evidence_recomputed"} <= set(report["decisions"][0])


def test_what_was_tampered_with_is_exit_code_1(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    run = shutil.copytree(finished, tmp_path / "run")
    (run / "run.toml").write_text("", encoding="utf-8")
    assert main(["audit", str(run)]) == 1
    assert "MISMATCH   seal, run.toml" in capsys.readouterr().out


def test_no_run_is_exit_code_2(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path)]) == 2
    assert main(["audit", str(finished), "--decision", "v0099"]) == 2
    assert capsys.readouterr().out == ""


def test_one_decision_is_made_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(finished), "--decision", "v0001"]) == 0
    shown = capsys.readouterr().out
    assert "recorded   archive" in shown and "again      archive" in shown


def test_a_head_kept_elsewhere_is_compared(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = mv.audit(finished).chain.head
    assert main(["audit", str(finished), "--head", head]) == 0
    assert main(["audit", str(finished), "--head", "0" * 64]) == 1
    assert "written down elsewhere" in capsys.readouterr().out


def test_figures_that_follow_from_nothing_are_found(recorded: Recorded) -> None:
    """The synthetic run of these tests says what it likes."""
    assert not mv.audit(recorded()).ok
