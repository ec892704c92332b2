"""What the screens start: where, and what is said when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import synthetic_run as synthetic
from textual.pilot import Pilot
from tui_harness import app_over, drive, settled, shows

from moevolve.journal.store import RunStore
from moevolve.records import Timing
from moevolve_tui import asking, controls
from moevolve_tui.app import WatchApp
from moevolve_tui.attach import session_of
from moevolve_tui.dialogs import ConfirmScreen
from moevolve_tui.targets import ActionTarget


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """Commands that would be started."""
    found: list[tuple[list[str], Path]] = []

    def begin(self: asking.Asking, arguments: list[str], where: Path, words: str) -> str:
        found.append((arguments, where))
        return words

    monkeypatch.setattr(asking.Asking, "_begun", begin)
    return found


def watched(path: Path) -> WatchApp:
    return WatchApp(session_of([path], path, wait=False), clock=lambda: 0.0)


def test_an_empty_folder_offers_a_quickstart_in_itself(
    tmp_path: Path, begun: list[tuple[list[str], Path]]
) -> None:
    (tmp_path / "new").mkdir()
    app = watched(tmp_path / "new")

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("1")
        await pilot.pause()
        pane = app.chosen_pane
        assert shows(app, "Enter here starts the quickstart")
        pane.cursor = next(
            index for index, row in enumerate(pane.page.rows) if isinstance(row.target, ActionTarget)
        )
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("y")
        await pilot.pause()

    drive(app, script, (100, 30))
    new = (tmp_path / "new").absolute()
    assert begun == [(["run", "quickstart", "--display", "none", "--out", str(new)], new.parent)]


@pytest.mark.parametrize("folder", ["runs", "experiments"])
def test_a_quickstart_begins_under_the_folder_that_is_watched(
    folder: str, tmp_path: Path, begun: list[tuple[list[str], Path]]
) -> None:
    with RunStore.create(tmp_path / folder / "a") as store:
        store.append(list(synthetic.records())[:5], Timing(at=0.0))
    app = watched(tmp_path / folder)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("0", "n")
        await pilot.pause()
        await pilot.press("y")
        await pilot.pause()

    drive(app, script, (100, 30))
    where = tmp_path if folder == "runs" else tmp_path / folder
    assert begun == [(["run", "quickstart", "--display", "none"], where.absolute())]


def test_a_command_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    code = "import sys; sys.exit('first line\\nmoevolve resume: an older schema')"
    monkeypatch.setattr(controls, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(asking, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(asking, "LOOKS", 10**6)
    app = app_over(synthetic.recorded(None, "stopped", alive=False))

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("h", "y")
        await settled(pilot, lambda: shows(app, "an older schema"))

    drive(app, script, (100, 30))


def test_a_command_that_ends_well_has_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        controls, "COMMAND", (sys.executable, "-c", "import sys; print('x', file=sys.stderr)")
    )
    begun = controls.Begun([], tmp_path)
    begun.wait()
    assert begun.over and not begun.fault()
    with pytest.raises(controls.Refused, match="could not be started"):
        controls.Begun([], tmp_path / "nowhere")
