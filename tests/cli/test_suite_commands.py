"""`skills` without a run, `init`, `doctor`, `watch` and `generate`: commands that need no run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import Command

from moevolve.config import Config

pytest.importorskip("moevolve.journal.store")


class TestSkills:
    def test_the_suites_leaves_with_examples(self, moevolve: Command) -> None:
        shown = json.loads(moevolve("skills", "--json").stdout)
        assert shown["suite"] == "primer" and len(shown["skills"]) >= 10
        assert all(row["example"]["prompt"].endswith("=") for row in shown["skills"])

    def test_the_tree_as_text(self, moevolve: Command) -> None:
        done = moevolve("skills")
        assert done.returncode == 0
        assert re.search(r"^text\s*$\n^  caesar\s+1-16", done.stdout, re.MULTILINE)

    def test_validation_proves_the_suite(self, moevolve: Command) -> None:
        done = moevolve("validate", "primer", "--json")
        shown = json.loads(done.stdout)
        assert done.returncode == 0 and shown["ok"]
        assert all(leaf["gold"] == 1.0 and leaf["constant"] < 0.2 for leaf in shown["leaves"])

    def test_an_unknown_suite_names_the_nearest(self, moevolve: Command) -> None:
        done = moevolve("skills", "--suite", "primr")
        assert done.returncode == 2 and "primer" in done.stderr


class TestInit:
    def test_what_it_writes_is_the_preset(self, moevolve: Command, tmp_path: Path) -> None:
        done = moevolve("init", "mine.toml", "--preset", "small")
        assert done.returncode == 0 and "moevolve run mine.toml" in done.stderr
        assert Config.load(tmp_path / "mine.toml") == Config.load("small")

    def test_it_replaces_nothing_unasked(self, moevolve: Command, tmp_path: Path) -> None:
        (tmp_path / "moevolve.toml").write_text("mine")
        assert moevolve("init").returncode == 2
        assert (tmp_path / "moevolve.toml").read_text() == "mine"
        assert moevolve("init", "--force").returncode == 0
        assert (tmp_path / "moevolve.toml").read_text() != "mine"


class TestDoctor:
    def test_json_names_what_is_in_force(self, moevolve: Command) -> None:
        done = moevolve("doctor", "--json")
        shown = json.loads(done.stdout)
        findings = {finding["name"]: finding for finding in shown["findings"]}
        assert set(findings) == {"python", "machine", "engine", "sandbox", "store", "gpu", "watch", "disk"}
        assert findings["store"]["ok"]
        assert done.returncode == (0 if shown["ok"] else 1)

    def test_text_has_a_line_a_finding(self, moevolve: Command) -> None:
        done = moevolve("doctor")
        assert re.search(r"^(ok|!!)  sandbox\s+.*limits$", done.stdout, re.MULTILINE)

    def test_records_that_do_not_wait_for_the_disk_are_told(
        self, moevolve: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = {}
        for value in ("on", "off"):
            monkeypatch.setenv("MOEVOLVE_SYNC", value)
            said[value] = moevolve("doctor").stdout
        assert "MOEVOLVE_SYNC=off" in said["off"] and "MOEVOLVE_SYNC" not in said["on"]
        monkeypatch.setenv("MOEVOLVE_SYNC", "maybe")
        done = moevolve("run", "small", "--out", "run", "--cycles", "1")
        assert done.returncode == 2 and "MOEVOLVE_SYNC is `on`" in done.stderr


def test_watching_without_a_terminal_says_what_to_do_instead(moevolve: Command) -> None:
    done = moevolve("watch")
    assert done.returncode == 2 and "moevolve show" in done.stderr and "Traceback" not in done.stderr


def test_watching_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from moevolve.cli.main import main

    monkeypatch.setitem(sys.modules, "moevolve_tui", None)
    monkeypatch.setitem(sys.modules, "moevolve_tui.app", None)
    assert main(["watch"]) == 2
    assert "pip install moevolve-tui" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["quikstart"], ["none.toml"], ["small", "--arm", "ful"], ["small", "--seed", "-1"]]
)
def test_a_run_that_cannot_be_leaves_no_folder(moevolve: Command, tmp_path: Path, words: list[str]) -> None:
    done = moevolve("run", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("moevolve: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
