"""What the screen looks like. `MOEVOLVE_SNAPSHOTS=write pytest tests/tui` draws the pictures anew."""

from collections.abc import Callable

import pytest
import synthetic_run as synthetic
from memory_run import MemoryRun
from textual.pilot import Pilot
from tui_harness import app_over, drive, settled

from moevolve_tui.app import WatchApp

ENTRIES = synthetic.entries()
MIDDLE = synthetic.middle()
SIZES = [(80, 24), (120, 40)]
Compare = Callable[[WatchApp, str], None]


def picture(
    compare: Compare,
    name: str,
    folder: MemoryRun | None,
    size: tuple[int, int],
    keys: tuple[str, ...] = (),
    theme: str = "",
) -> None:
    app = app_over(folder)

    async def script(pilot: Pilot[str]) -> None:
        if theme:
            app.theme = theme
        if folder is not None:
            await settled(pilot, lambda: app.model.entries == len(folder))
        for key in keys:
            await pilot.press(key)
        await pilot.pause()
        await pilot.pause()
        compare(app, f"{name}-{size[0]}x{size[1]}")

    drive(app, script, size)


def running(count: int = MIDDLE) -> MemoryRun:
    return MemoryRun(ENTRIES[:count], synthetic.state_at(count))


@pytest.mark.parametrize("size", SIZES)
def test_running(matches_snapshot: Compare, size: tuple[int, int]) -> None:
    picture(matches_snapshot, "running", running(), size)


@pytest.mark.parametrize("size", SIZES)
def test_finished(matches_snapshot: Compare, size: tuple[int, int]) -> None:
    folder = MemoryRun(ENTRIES, synthetic.state_at(len(ENTRIES), "finished"), alive=False)
    picture(matches_snapshot, "finished", folder, size)


@pytest.mark.parametrize("size", SIZES)
def test_waiting(matches_snapshot: Compare, size: tuple[int, int]) -> None:
    picture(matches_snapshot, "waiting", None, size)


def test_just_started(matches_snapshot: Compare) -> None:
    picture(matches_snapshot, "started", running(2), (80, 24))


def test_stopped(matches_snapshot: Compare) -> None:
    folder = running(MIDDLE)
    folder.alive = False
    picture(matches_snapshot, "stopped", folder, (80, 24))


@pytest.mark.parametrize(
    ("number", "name"), [("1", "score"), ("2", "skills"), ("3", "lineage"), ("4", "log")]
)
def test_zoomed(matches_snapshot: Compare, number: str, name: str) -> None:
    picture(matches_snapshot, f"zoomed-{name}", running(), (80, 24), (number, "z"))


def test_filtered(matches_snapshot: Compare) -> None:
    picture(matches_snapshot, "filtered", running(), (80, 24), ("slash", *"promoted", "enter"))


def test_help(matches_snapshot: Compare) -> None:
    picture(matches_snapshot, "help", running(), (80, 24), ("question_mark",))


def test_light_theme(matches_snapshot: Compare) -> None:
    picture(matches_snapshot, "light", running(), (80, 24), theme="textual-light")
