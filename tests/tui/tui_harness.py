"""What the TUI's tests share: a run folder in memory, and an app over it at a fixed size and time."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from memory_run import MemoryRun
from textual.pilot import Pilot

from moevolve_tui.app import WatchApp
from moevolve_tui.reader import Reader


def app_over(folder: MemoryRun | None, screenshots: Path = Path()) -> WatchApp:
    """An app over a folder in memory, or over none yet; its clock stands still."""
    reader = Reader(lambda: Path("runs/first") if folder is not None else None, lambda _: folder)  # type: ignore[arg-type, return-value]
    return WatchApp(reader, place="runs/first", clock=lambda: 100.0, screenshots=screenshots)


def drive(
    app: WatchApp, script: Callable[[Pilot[str]], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> None:
    """Runs the app without a terminal and plays `script` on it."""

    async def play() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await script(pilot)

    asyncio.run(play())


async def settled(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    """Lets the app work until `condition` holds; fails when it does not come true."""
    for _ in range(1000):
        await pilot.pause(0.01)
        if condition():
            await pilot.pause()
            await pilot.pause()
            return
    raise AssertionError("the app did not get there")


def screen_text(app: WatchApp) -> list[str]:
    """The lines on the screen, as text."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]
