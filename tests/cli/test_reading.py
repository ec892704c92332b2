"""Commands that read a run, as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, Recorded
from older_run import write_older_run
from synthetic_journal import SKILLS

pytest.importorskip("moevolve.journal.store")


def said(done: Any) -> Any:
    """The JSON a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestShow:
    def test_json_is_the_contracts(self, recorded: Recorded, moevolve: Command) -> None:
        shown = said(moevolve("show", recorded(cycles=2, gain=0.1), "--json"))
        assert (shown["status"], shown["seed"], shown["arm"], shown["cycles"]) == ("finished", 11, "full", 2)
        assert (shown["score"]["initial"], shown["score"]["final"]) == (0.4, 0.6)
        assert list(shown["skills"]) == list(SKILLS)
        assert shown["promotions"] == {
            "weights": {"proposed": 2, "accepted": 2},
            "program": {"proposed": 2, "accepted": 1},
        }
        assert len(shown["journal"]["head"]) == 64

    def test_text_is_a_table(self, recorded: Recorded, moevolve: Command) -> None:
        done = moevolve("show", recorded(gain=0.1))
        assert done.returncode == 0 and done.stderr == ""
        assert "0.600 [0.570, 0.630]" in done.stdout

    def test_a_run_that_was_killed_is_stopped(self, recorded: Recorded, moevolve: Command) -> None:
        shown = said(moevolve("show", recorded(status="running"), "--json"))
        assert shown["status"] == "stopped"
        assert "final" not in shown["score"] and "gain" not in shown["score"]
        assert shown["dev"]["gain"] == pytest.approx(shown["dev"]["final"] - shown["dev"]["initial"])

    def test_no_run_there_is_a_usage_error_that_names_the_nearest(
        self, recorded: Recorded, moevolve: Command
    ) -> None:
        path = recorded("first")
        done = moevolve("show", path.with_name("frist"), "--json")
        assert done.returncode == 2 and done.stdout == ""
        assert f"did you mean `{path}`?" in done.stderr

    def test_a_folder_without_a_run_is_a_usage_error(self, moevolve: Command, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = moevolve("show", "empty")
        assert done.returncode == 2 and done.stderr.count("\n") == 1


class TestLs:
    def test_json_lists_runs(self, recorded: Recorded, moevolve: Command) -> None:
        recorded("a", seed=1)
        recorded("b", seed=2, status="running")
        rows = said(moevolve("ls", "--json"))
        assert [(Path(row["path"]).name, row["seed"], row["status"]) for row in rows] == [
            ("a", 1, "finished"),
            ("b", 2, "stopped"),
        ]

    def test_a_broken_run_does_not_hide_the_others(
        self, recorded: Recorded, moevolve: Command, tmp_path: Path
    ) -> None:
        recorded("a")
        broken = recorded("b")
        for file in (broken / "journal").iterdir():
            if not file.name.startswith("lock"):
                file.write_bytes(b"torn")
        done = moevolve("ls", "--json")
        rows = {Path(row["path"]).name: row for row in said(done)}
        assert rows["a"]["status"] == "finished"
        assert "b" not in rows or "error" in rows["b"]

    def test_no_runs_are_an_empty_list(self, moevolve: Command) -> None:
        assert said(moevolve("ls", "--json")) == []
        done = moevolve("ls")
        assert done.returncode == 0 and done.stdout == "" and "moevolve run quickstart" in done.stderr

    def test_a_missing_root_is_a_usage_error(self, moevolve: Command) -> None:
        assert moevolve("ls", "nowhere").returncode == 2


class TestReport:
    def test_prints_and_writes_the_page_into_the_run(self, recorded: Recorded, moevolve: Command) -> None:
        path = recorded()
        done = moevolve("report", path)
        assert done.returncode == 0
        assert "Score by cycle" in done.stdout and "Decisions of the gate" in done.stdout
        assert (path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        assert f"Wrote {path / 'report.html'}" in done.stderr

    def test_json_writes_no_page_unless_asked(
        self, recorded: Recorded, moevolve: Command, tmp_path: Path
    ) -> None:
        path = recorded()
        shown = said(moevolve("report", path, "--json"))
        assert len(shown["gates"]) == 4 and len(shown["curve"]) == 5
        assert not (path / "report.html").exists()
        said(moevolve("report", path, "--json", "--html", tmp_path / "page.html"))
        assert (tmp_path / "page.html").exists()

    def test_a_page_that_cannot_be_written_is_one_message(
        self, recorded: Recorded, moevolve: Command, tmp_path: Path
    ) -> None:
        done = moevolve("report", recorded(), "--html", tmp_path / "nowhere" / "page.html")
        assert done.returncode == 1 and "nowhere/page.html" in done.stderr and "Traceback" not in done.stderr


class TestCompare:
    def test_all_runs_with_intervals(self, recorded: Recorded, moevolve: Command) -> None:
        paths = [recorded(arm, arm=arm, gain=gain) for arm, gain in (("full", 0.15), ("weights", 0.05))]
        rows = said(moevolve("compare", *paths, "--json"))
        assert [(row["arm"], row["score"]["gain"]) for row in rows] == [("full", 0.3), ("weights", 0.1)]
        assert all(
            row["score"]["gain_ci"][0] < row["score"]["gain"] < row["score"]["gain_ci"][1] for row in rows
        )
        text = moevolve("compare", *paths).stdout
        assert len(re.findall(r"\[[+-]?0\.\d{3}, [+-]?0\.\d{3}\]", text)) == 6

    def test_what_lies_beside_the_runs_is_left_out(
        self, recorded: Recorded, moevolve: Command, tmp_path: Path
    ) -> None:
        path = recorded()
        (tmp_path / "runs" / "memory" / "journal").mkdir(parents=True)
        done = moevolve("compare", path, tmp_path / "runs" / "memory", "--json")
        assert [row["path"] for row in said(done)] == [str(path)]
        assert "memory holds no run" in done.stderr
        assert moevolve("compare", tmp_path / "runs" / "memory").returncode == 2

    def test_one_missing_run_is_a_usage_error(self, recorded: Recorded, moevolve: Command) -> None:
        assert moevolve("compare", recorded(), "nowhere").returncode == 2


class TestDiff:
    def test_program_and_weights(self, recorded: Recorded, moevolve: Command) -> None:
        done = moevolve("diff", recorded(cycles=1), "seed", "champion")
        assert done.returncode == 0
        assert "weights: changed" in done.stdout
        assert "--- a/solve.py\n+++ b/solve.py\n" in done.stdout
        assert (
            "-    return await agent.generate(task.prompt)\n+    return await vote(task.prompt, n=5)"
            in done.stdout
        )

    def test_weights_alone(self, recorded: Recorded, moevolve: Command) -> None:
        shown = said(moevolve("diff", recorded(cycles=1), "v0000", "v0001", "--json"))
        assert (shown["weights_changed"], shown["program_changed"], shown["diff"]) == (True, False, "")

    def test_an_unknown_variant_names_the_nearest(self, recorded: Recorded, moevolve: Command) -> None:
        done = moevolve("diff", recorded(cycles=1), "v0000", "v001")
        assert done.returncode == 2 and "did you mean `v0001`?" in done.stderr


class TestSkills:
    def test_a_runs_tree(self, recorded: Recorded, moevolve: Command) -> None:
        path = recorded(gain=0.1)
        shown = said(moevolve("skills", path, "--json"))
        assert [row["path"] for row in shown["skills"]] == list(SKILLS)
        assert shown["skills"][0]["figures"]["final"] == 0.6
        assert re.search(r"reverse\s+4 \(3-4\)\s+6 \(5-6\)", moevolve("skills", path).stdout)


class TestOlderVersion:
    """A run of schema version 2 is read by every command that reads."""

    def test_it_is_shown_listed_reported_and_compared(self, moevolve: Command, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "older"
        head = write_older_run(path)
        assert said(moevolve("show", path, "--json"))["journal"]["head"] == head
        [row] = said(moevolve("ls", "--json"))
        assert (row["status"], row["score"]["n"]) == ("finished", 192)
        report = moevolve("report", path)
        assert report.returncode == 0 and "v0002" in report.stdout
        assert "not chosen" in (path / "report.html").read_text(encoding="utf-8")
        assert "subtract" in moevolve("skills", path).stdout
        assert moevolve("compare", path, path).returncode == 0

    def test_its_programs_are_compared(self, moevolve: Command, tmp_path: Path) -> None:
        write_older_run(tmp_path / "older")
        shown = said(moevolve("diff", tmp_path / "older", "seed", "champion", "--json"))
        assert shown["a"]["parents"] == [] and "columns" in shown["diff"]

    def test_it_is_replayed_no_more(self, moevolve: Command, tmp_path: Path) -> None:
        write_older_run(tmp_path / "older")
        done = moevolve("replay", tmp_path / "older")
        assert done.returncode == 2 and "older version" in done.stderr


def test_report_plots_the_curve_alone(recorded: Recorded, moevolve: Command, tmp_path: Path) -> None:
    run = recorded()
    plotted = moevolve("report", run, "--json", "--plot", "curve.svg")
    assert plotted.returncode == 0, plotted.stderr
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")
    assert moevolve("report", run, "--json", "--plot", "curve.png").returncode == 0
    data = (tmp_path / "curve.png").read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and (width, height) == (1720, 640)
    refused = moevolve("report", run, "--plot", "curve.pdf")
    assert (refused.returncode, "writes SVG or PNG" in refused.stderr) == (2, True)
