"""What a run shows of itself, and how `run` ends: displays draw, never decide."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Recorded
from rich.console import Console
from synthetic_journal import entries, records

from moevolve.cli import driving, output
from moevolve.cli.display import JsonDisplay, PlainDisplay, Silent, display
from moevolve.cli.live import LiveDisplay
from moevolve.errors import MoevolveError
from moevolve.journal.view import RunView
from moevolve.records import Entry, State


def state(stage: str, *, done: float = 0.25, status: str = "running", eta: float | None = 90.0) -> State:
    return State(status=status, pid=1, stage=stage, done=done, seconds=30.0, eta=eta)  # type: ignore[arg-type]


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestPlain:
    def test_one_line_an_event(self, capsys: pytest.CaptureFixture[str]) -> None:
        shown = PlainDisplay()
        found = entries(records())
        for entry in found:
            shown.event(entry)
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == len(found)

    def test_a_stage_is_said_once_until_it_is_another_or_time_has_passed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        clock = Clock()
        shown = PlainDisplay(clock)
        shown.state(state("gate, 96 tasks"))
        shown.state(state("gate, 192 tasks"))
        assert capsys.readouterr().err == "   0:30  ... gate, 96 tasks (25%, 1:30 left)\n"
        clock.now = 11.0
        shown.state(state("gate, 288 tasks"))
        shown.state(state("training, 60 steps", eta=None))
        assert capsys.readouterr().err.splitlines() == [
            "   0:30  ... gate, 288 tasks (25%, 1:30 left)",
            "   0:30  ... training, 60 steps (25%)",
        ]


def test_json_is_one_object_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    shown = JsonDisplay()
    found = entries(records())
    for entry in found:
        shown.event(entry)
        shown.state(state("gate"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(len(found)))
    assert (lines[0]["record"]["kind"], lines[0]["record"]["seed"]) == ("run_started", 11)


class TestLive:
    def drawn(self, fill: Callable[[LiveDisplay], None], width: int = 80) -> str:
        file = io.StringIO()
        console = Console(file=file, width=width, height=24, force_terminal=False)
        shown = LiveDisplay(console, Clock())
        fill(shown)
        console.print(shown)
        return file.getvalue()

    def test_before_anything_is_known_it_says_what_is_being_done(self) -> None:
        text = self.drawn(lambda shown: None)
        assert "loading the policy" in text and "not measured yet" in text

    def test_progress_score_and_newest_events(self) -> None:
        def fill(shown: LiveDisplay) -> None:
            for entry in entries(records(cycles=2, gain=0.1)):
                shown.event(entry)
            shown.state(state("cycle 3/8: gate, weights"))

        text = self.drawn(fill)
        assert " 25%" in text and "0:30, 1:30 left" in text
        assert "cycle 3/8: gate, weights" in text
        assert "dev .380 > .600 ±.030" in text
        assert "Run finished after 2 cycles" in text

    def test_a_run_that_goes_on_shows_what_is_on_record(self) -> None:
        file = io.StringIO()
        console = Console(file=file, width=80, height=24, force_terminal=False)
        past = RunView().fold(entries(records(finished=False)))
        console.print(LiveDisplay(console, Clock(), past))
        assert "synthetic-11" in file.getvalue() and "dev .380 > .640 ±.030" in file.getvalue()

    @pytest.mark.parametrize("width", [20, 40, 80, 200])
    def test_it_fits_the_terminal(self, width: int) -> None:
        def fill(shown: LiveDisplay) -> None:
            for entry in entries(records(cycles=3)):
                shown.event(entry)
            shown.state(state("screening candidate 3/8: " + "long " * 60))

        lines = self.drawn(fill, width).splitlines()
        assert len(lines) <= 12 and all(len(line) <= width for line in lines)


def test_auto_draws_lines_where_stderr_is_no_terminal() -> None:
    assert isinstance(display("auto"), PlainDisplay)
    assert isinstance(display("none"), Silent)


class TestRun:
    pytest.importorskip("moevolve.journal.store")

    def test_it_ends_with_a_table_on_stdout(
        self,
        loop: Any,
        recorded: Recorded,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from moevolve.cli.main import main

        monkeypatch.chdir(tmp_path)
        asked: list[tuple[Any, Path]] = []

        def start(config: Any, out: Path, on_event: Any, on_state: Any, on_estimate: Any) -> Path:
            asked.append((config, out))
            path = recorded(out.name, gain=0.1)
            for entry in entries(records()):
                on_event(entry)
            return path

        loop.start = start
        assert main(["run", "small", "--seed", "7", "--arm", "weights", "--cycles", "3"]) == 0
        (config, out), shown = asked[0], capsys.readouterr()
        assert (config.seed, config.arm, config.cycles, config.minutes) == (7, "weights", 3, None)
        assert out == Path("runs/small-7-1")
        assert "Promoted: weights 2 of 2 proposed" in shown.out and "0.600 [0.570, 0.630]" in shown.out
        assert "Cycle 1 starts from" in shown.err and "Cycle 1 starts from" not in shown.out

    def test_json_display_prints_nothing_but_entries(
        self, loop: Any, recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from moevolve.cli.main import main

        def start(config: Any, out: Path, on_event: Any, on_state: Any, on_estimate: Any) -> Path:
            recorded("x")
            on_state(state("gate"))
            on_event(entries(records())[0])
            return out

        loop.start = start
        assert main(["run", "small", "--out", str(tmp_path / "runs" / "x"), "--display", "json"]) == 0
        assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [0]

    @pytest.mark.parametrize(("error", "code"), [(MoevolveError("torn"), 1), (KeyboardInterrupt(), 130)])
    def test_an_early_end_says_how_to_go_on(
        self,
        loop: Any,
        recorded: Recorded,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        error: BaseException,
        code: int,
    ) -> None:
        from moevolve.cli.main import main

        def start(config: Any, out: Path, on_event: Any, on_state: Any, on_estimate: Any) -> Path:
            recorded(out.name, status="running")
            raise error

        loop.start = start
        out = tmp_path / "runs" / "mine"
        assert main(["run", "small", "--out", str(out), "--display", "plain"]) == code
        shown = capsys.readouterr()
        assert shown.out == "" and f"moevolve resume {out}" in shown.err


def test_a_reader_that_leaves_ends_no_run() -> None:
    """`moevolve run --display json | head -1`."""
    seen: list[int] = []

    class Gone(Silent):
        def event(self, entry: Entry) -> None:
            seen.append(entry.seq)
            raise BrokenPipeError

    done: list[str] = []

    def work(event: Callable[[Entry], None], state: Callable[[State], None]) -> None:
        for entry in entries(records()):
            event(entry)
        done.append("all")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driving, "display", lambda *_: Gone())
        patch.setattr(driving, "deaf", lambda *_: None)
        driving.drive(work, "json")
    assert done == ["all"] and seen == [0]


def test_a_stream_without_a_reader_is_led_to_nowhere(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        stream.write("a word")
        output.deaf(stream)
        print("another one", file=stream, flush=True)
