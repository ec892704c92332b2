"""The screens that a run opens by itself: in a process of their own, and nothing that becomes of them touches the run."""

import sys
from pathlib import Path

import pytest
from synthetic_journal import entries, records

from moevolve.cli import watching
from moevolve.cli.display import PlainDisplay, Silent, display
from moevolve.cli.watching import Screens, can_open_screens
from moevolve.records import Entry

FOUND = entries(records())


class Kept(Silent):
    """Notes what it is told."""

    told: list[Entry]

    def __init__(self) -> None:
        Kept.told = []

    def event(self, entry: Entry) -> None:
        Kept.told.append(entry)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_no_terminal_or_no_package_means_no_screens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not can_open_screens()
    assert isinstance(display("auto", run=tmp_path), PlainDisplay)
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    assert can_open_screens()
    assert isinstance(display("auto", run=tmp_path), Screens)
    monkeypatch.setenv("LINES", "10")
    assert not can_open_screens()
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setattr(watching.importlib.util, "find_spec", lambda name: None)
    assert not can_open_screens()


def test_while_the_screens_stand_nothing_else_is_drawn_and_the_end_waits_for_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Screens(tmp_path, after=Kept, command=program("input()")) as shown:
        process = shown._process
        assert process is not None
        for entry in FOUND[:5]:
            shown.event(entry)
        assert capfd.readouterr().err == ""
        process.kill()
    assert process.poll() is not None


@pytest.mark.parametrize("text", ["import sys; sys.exit(0)", "import sys; sys.exit(3)", "raise RuntimeError"])
def test_a_run_goes_on_when_the_screens_end_however_they_end(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Screens(tmp_path, after=Kept, command=program(text)) as shown:
        process = shown._process
        assert process is not None
        process.wait()
        for entry in FOUND[:5]:
            shown.event(entry)
    assert Kept.told == FOUND[:5]
    assert "run goes on" in capfd.readouterr().err


def test_screens_that_cannot_be_started_are_said_and_no_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Screens(tmp_path, after=Kept, command=[str(tmp_path / "nowhere")]) as shown:
        shown.event(FOUND[0])
    assert Kept.told == FOUND[:1]
    assert "could not be opened" in capfd.readouterr().err


def test_an_interrupt_takes_the_screens_down(tmp_path: Path) -> None:
    shown = Screens(tmp_path, after=Kept, command=program("import time; time.sleep(60)"))
    with pytest.raises(KeyboardInterrupt), shown:
        raise KeyboardInterrupt
    assert shown._process is not None and shown._process.returncode is not None
