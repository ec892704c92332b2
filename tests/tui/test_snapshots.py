"""What the screens look like, at five sizes in light and dark.

`MOEVOLVE_SNAPSHOTS=write pytest tests/tui` draws the pictures anew.
"""

from collections.abc import Callable

import pytest
import synthetic_run as synthetic
from textual.pilot import Pilot
from tui_harness import app_over, drive

from moevolve_tui.app import WatchApp
from moevolve_tui.screens import SCREENS

SIZES = [(80, 24), (100, 40), (120, 32), (120, 40), (180, 50)]
THEMES = {"dark": "textual-dark", "light": "textual-light"}
Compare = Callable[[WatchApp, str], None]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_screen(matches_snapshot: Compare, size: tuple[int, int], theme: str) -> None:
    finished = synthetic.recorded(None, "finished", alive=False)
    app = app_over(synthetic.recorded(synthetic.middle()), finished)

    async def script(pilot: Pilot[str]) -> None:
        app.theme = THEMES[theme]
        for number, page in enumerate(SCREENS):
            await pilot.press(str(number))
            await pilot.pause()
            matches_snapshot(app, f"{page.NAME.lower()}-{size[0]}x{size[1]}-{theme}")

    drive(app, script, size)


@pytest.mark.parametrize("status", ["finished", "failed", "stopped", "paused"])
def test_every_state(matches_snapshot: Compare, status: str) -> None:
    count = None if status == "finished" else synthetic.middle()
    app = app_over(synthetic.recorded(count, status, alive=False))

    async def script(pilot: Pilot[str]) -> None:
        matches_snapshot(app, f"state-{status}")

    drive(app, script)


def test_no_run_and_no_record(matches_snapshot: Compare) -> None:
    empty = app_over()

    async def script(pilot: Pilot[str]) -> None:
        matches_snapshot(empty, "state-empty")

    drive(empty, script)
    waiting = app_over(synthetic.recorded(0))

    async def wait(pilot: Pilot[str]) -> None:
        matches_snapshot(waiting, "state-waiting")

    drive(waiting, wait)


def test_help_and_a_question(matches_snapshot: Compare) -> None:
    app = app_over(synthetic.recorded(synthetic.middle()))

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        matches_snapshot(app, "help")
        await pilot.press("escape", "p")
        await pilot.pause()
        matches_snapshot(app, "question")

    drive(app, script)
