"""`resume` and `replay`: exit codes, and what is said when it cannot be done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, Recorded

from moevolve.cli.main import main
from moevolve.config import Config
from moevolve.errors import DivergedError
from moevolve.journal.store import RunStore
from moevolve.records import RunFinished


def test_resuming_what_has_finished_prints_its_table_and_changes_nothing(
    recorded: Recorded, moevolve: Command
) -> None:
    path = recorded()
    with RunStore.open(path) as store:
        before = store.head()
    done = moevolve("resume", path)
    assert done.returncode == 0 and "Promoted:" in done.stdout and "nothing to resume" in done.stderr
    with RunStore.open(path) as store:
        assert store.head() == before


def test_a_second_writer_is_refused_and_told_who_the_first_is(recorded: Recorded, moevolve: Command) -> None:
    path = recorded(status="running")
    with RunStore.open(path, write=True):
        done = moevolve("resume", path)
    assert done.returncode == 2 and done.stdout == ""
    assert str(os.getpid()) in done.stderr and "Traceback" not in done.stderr
    assert "goes on from there" not in done.stderr


def test_a_folder_that_holds_a_run_is_not_run_over(recorded: Recorded, moevolve: Command) -> None:
    path = recorded()
    with RunStore.open(path) as store:
        before = store.head()
    done = moevolve("run", "small", "--out", path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    with RunStore.open(path) as store:
        assert store.head() == before


@pytest.mark.parametrize("again", [("run", "small", "--cycles", "0", "--out"), ("resume",)])
def test_a_run_that_was_killed_before_its_first_record_can_be_started(
    again: tuple[str, ...], tmp_path: Path, moevolve: Command
) -> None:
    path = tmp_path / "run"
    RunStore.create(path).close()
    (path / "run.toml").write_text(Config.load("small", {}).override(cycles=0).toml())
    done = moevolve(*again, path, "--display", "none")
    assert done.returncode == 0, done.stderr
    with RunStore.open(path) as store:
        assert isinstance(store.entries(len(store) - 1)[0].record, RunFinished)


def test_a_mistyped_skill_leaves_no_folder(tmp_path: Path, moevolve: Command) -> None:
    path = tmp_path / "run"
    done = moevolve("run", "small", "--set", 'suite.skills=["text/revrse"]', "--out", path)
    assert done.returncode == 2 and "text/reverse" in done.stderr and not path.exists()


class TestReplay:
    def test_the_same_head_is_exit_code_0(
        self, loop: Any, recorded: Recorded, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scratches: list[Path] = []

        def replay(
            source: Path, scratch: Path, on_event: Any, on_state: Any, repeats: Any
        ) -> tuple[str, str]:
            scratches.append(scratch)
            return "abc", "abc"

        loop.replay = replay
        assert main(["replay", str(recorded())]) == 0
        assert "recorded  abc\nreplayed  abc\nthe same head\n" in capsys.readouterr().out
        assert not scratches[0].parent.exists()

    def test_another_head_is_exit_code_1(
        self, loop: Any, recorded: Recorded, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loop.replay = lambda *_: ("abc", "abd")
        assert main(["replay", str(recorded()), "--json"]) == 1
        shown = json.loads(capsys.readouterr().out)
        assert (shown["recorded"], shown["replayed"], shown["equal"]) == ("abc", "abd", False)

    def test_the_first_record_that_differs_is_named(
        self, loop: Any, recorded: Recorded, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def replay(*_: object) -> tuple[str, str]:
            raise DivergedError("replay differs at record 7: on file Trained, now Gated")

        loop.replay = replay
        path = recorded()
        with RunStore.open(path) as store:
            head = store.head()
        assert main(["replay", str(path)]) == 1
        shown = capsys.readouterr().out
        assert f"recorded  {head}\nreplayed  -\n" in shown and "record 7" in shown

    def test_json_keeps_stdout_for_the_result(
        self, loop: Any, recorded: Recorded, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loop.replay = lambda *_: ("abc", "abc")
        assert main(["replay", str(recorded()), "--json", "--display", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["equal"] is True
