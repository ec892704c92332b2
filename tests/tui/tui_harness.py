"""What the TUI's tests share: sessions over runs in memory, and an app over one at a fixed size and time."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from memory_run import MemoryRun
from textual.pilot import Pilot

from moevolve_tui.app import WatchApp
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import Context
from moevolve_tui.session import Session


def session_over(*folders: MemoryRun) -> Session:
    """A session over runs in memory, the first of which is looked at."""
    paths = {Path(f"runs/run-{number}"): folder for number, folder in enumerate(folders, 1)}
    return Session(list(paths), opener=lambda path: paths[path], probe=lambda path: 1, clock=lambda: 0.0)


def read_all(session: Session) -> Session:
    """Reads until there is no more."""
    more = True
    while more:
        changed, more = session.step()
        more |= changed
    return session


def context_over(*folders: MemoryRun) -> Context:
    """What pages need, over runs that were read."""
    return Context(read_all(session_over(*folders)))


def model_over(folder: MemoryRun) -> RunModel:
    """One run that was read."""
    model = read_all(session_over(folder)).current
    assert model is not None
    return model


def app_over(*folders: MemoryRun, screenshots: Path = Path(), settings: Path | None = None) -> WatchApp:
    """An app over runs in memory; its clock stands still."""
    return WatchApp(session_over(*folders), clock=lambda: 100.0, screenshots=screenshots, settings=settings)


def drive(
    app: WatchApp, script: Callable[[Pilot[str]], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> None:
    """Runs the app without a terminal, and plays `script` on it once everything on file is shown."""

    async def play() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await read(pilot, app)
            await script(pilot)

    asyncio.run(play())


async def read(pilot: Pilot[str], app: WatchApp) -> None:
    """Waits until everything on file was read and drawn."""

    def done() -> bool:
        return all(model.entries == model.total == len(model.folder or ()) for model in app.session.runs)

    await settled(pilot, done)
    app.renew()
    await pilot.pause()


async def settled(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    """Lets the app work until `condition` holds; fails when it does not come true."""
    for _ in range(2000):
        await pilot.pause(0.01)
        if condition():
            await pilot.pause()
            return
    raise AssertionError("the app did not get there")


def screen_text(app: WatchApp) -> list[str]:
    """The lines on the screen, as text."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def shows(app: WatchApp, text: str) -> bool:
    """Whether a line on the screen holds a text."""
    return any(text in line for line in screen_text(app))
