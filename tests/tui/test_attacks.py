"""What befalls screens in the open: impossible numbers, clocks that jump, folders that change under every inspector."""

import itertools
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import optimised_run as optimised
import pytest
import synthetic_run as synthetic
from memory_run import MemoryRun
from test_pages import every_page
from textual.pilot import Pilot
from tui_harness import context_over, drive, screen_text, settled, shows

from moevolve.journal.drawing.lines import text_of, width_of
from moevolve.journal.store import RunStore
from moevolve.records import Record, RunStarted, State, Timing
from moevolve_tui.actions import COMMANDS
from moevolve_tui.app import WatchApp
from moevolve_tui.attach import session_of
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.model import RunModel
from moevolve_tui.session import Session

FIGURES = ("Runs", "Overview", "Skills", "Lineage", "Diff", "Memory", "Guards", "System")
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0]
RECORDS = list(synthetic.records())


def with_number(value: Any, number: float) -> Any:
    """A record, or a part of one, all of whose fractions are one number."""
    if isinstance(value, float):
        return number
    if isinstance(value, msgspec.Struct):
        changed = {name: with_number(getattr(value, name), number) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    if isinstance(value, dict):
        return {key: with_number(each, number) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_number(each, number) for each in value)
    return value


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("made", [synthetic.recorded, optimised.recorded])
def test_numbers_that_no_run_writes_reach_every_page_and_break_none(
    made: Callable[[], MemoryRun], number: float
) -> None:
    run = made()
    run.written = [
        msgspec.structs.replace(
            entry,
            record=with_number(entry.record, number),
            timing=Timing(at=number if index % 3 else entry.timing.at, took=number),
        )
        for index, entry in enumerate(run.written)
    ]
    run.said = msgspec.structs.replace(
        synthetic.state_at(40), done=number, eta=number, seconds=number, status="running"
    )
    run.alive = True
    context = context_over(run)
    assert context.model is not None
    lines = heading_lines(context.model, number, 80)
    for page in every_page(context):
        for size in ((57, 12), (178, 46)):
            page.prepare(*size)
            drawn = [page.line(index) for index in range(page.count())]
            # Records are shown as they are on file, a loss that is none among them; elsewhere a dash stands for it.
            lines += drawn if page.NAME in FIGURES else []
            assert all(width_of(line) <= size[0] for line in drawn)
    words = {
        word.strip(",.;()[]+±")
        for line in lines
        for word in text_of(line).split()
        if ": " not in text_of(line)
    }
    assert not words & {"nan", "inf", "-inf"}


def test_clocks_that_jump_show_no_time_that_cannot_be() -> None:
    run = synthetic.recorded(60)
    ticks = itertools.cycle([0.0, 1e9, -1e9, 5.0, math.inf, 3.0])
    session = Session([Path("run")], opener=lambda path: run, probe=lambda path: 1, clock=lambda: 0.0)
    app = WatchApp(session, clock=lambda: next(ticks))
    states = [
        State(status="running", pid=1, stage="s", done=done, seconds=seconds, eta=eta)
        for done, seconds, eta in [
            (0.5, -5.0, -1.0),
            (7.0, 1e300, 1e300),
            (-3.0, 0.0, math.nan),
            (0.2, 9.0, 1.0),
        ]
    ]

    async def script(pilot: Pilot[str]) -> None:
        for state in states:
            run.said = state
            await settled(pilot, lambda state=state: session.current.done == state.done)  # type: ignore[union-attr]
            for key in ("1", "8", "9"):
                app.renew()
                await pilot.press(key)
                await pilot.pause()
                head = "\n".join(screen_text(app)[:2])
                assert "nan" not in head and "inf" not in head and "-" not in head.split("cycle")[1][:30]

    drive(app, script)


def run_in(folder: Path, count: int, name: str) -> Path:
    first = RECORDS[0]
    assert isinstance(first, RunStarted)
    records: list[Record] = [msgspec.structs.replace(first, run=name), *RECORDS[1:count]]
    with RunStore.create(folder) as store:
        store.append(records, Timing(at=1.0))
    return folder


WAYS = {
    "variant": ("3", "G", "enter"),
    "source": ("3", "G", "x"),
    "diff": ("3", "G", "d"),
    "compared": ("3", "m", "G", "c"),
    "attempts": ("3", "G", "a"),
    "skill": ("2", "j", "enter"),
    "record": ("9", "k", "enter"),
    "cycle": ("5", "enter"),
    "replay": ("t", "T", "9", "0", "percent_sign", "enter"),
}
ABOUT = (
    "d",
    "escape",
    "x",
    "escape",
    "a",
    "escape",
    "c",
    "m",
    "u",
    "left",
    "right",
    "enter",
    "G",
    "enter",
    "escape",
)
"""Keys that act on what is open."""
KEYS = [
    each
    for _, keys, action, *_ in COMMANDS
    for each in keys.split(",")
    if action not in ("quit", "picture", "command_palette")
]


@pytest.mark.parametrize("became", ["another", "deleted", "torn"])
def test_every_key_works_on_what_is_open_when_the_folder_changes(tmp_path: Path, became: str) -> None:
    """A longer run is looked into, and then its folder holds three records of another run, or nothing, or rubbish."""

    async def look(pilot: Pilot[str], app: WatchApp, keys: tuple[str, ...]) -> None:
        for key in keys:
            await pilot.press(key)
        await pilot.pause()

    ways = WAYS if became == "another" else {name: WAYS[name] for name in ("variant", "diff", "replay")}
    for number, keys in enumerate(ways.values()):
        # On one page every key there is.
        every = became == "another" and not number
        pressed = (*KEYS, "escape", "n", "escape", *"0123456789", *ABOUT) if every else ABOUT
        run = run_in(tmp_path / f"{number}" / "run", 120, "first")
        other = run_in(tmp_path / f"{number}-aside", 3, "second")
        app = WatchApp(session_of([run], run.parent, wait=False), clock=lambda: 0.0, screenshots=tmp_path)

        async def script(
            pilot: Pilot[str],
            app: WatchApp = app,
            run: Path = run,
            other: Path = other,
            keys: tuple[str, ...] = keys,
            pressed: tuple[str, ...] = pressed,
        ) -> None:
            model = app.session.current
            assert model is not None
            await look(pilot, app, keys)
            shutil.rmtree(run)
            if became == "another":
                other.rename(run)
                await settled(pilot, lambda: model.run == "second")
            elif became == "deleted":
                await settled(pilot, lambda: model.status == "deleted")
            else:
                (run / "journal").mkdir(parents=True)
                (run / "journal" / "data.mdb").write_bytes(b"half a page" * 100)
                await settled(pilot, lambda: bool(model.fault))
            app.renew()
            await pilot.press(*pressed)
            await pilot.pause()
            words = {"another": "second", "deleted": "deleted", "torn": "cannot be read"}[became]
            await pilot.press(*["escape"] * 6)
            app.renew()
            await pilot.pause()
            assert app.is_running and shows(app, words)

        drive(app, script, (120, 32))


def test_three_hundred_sizes_while_records_arrive() -> None:
    run = synthetic.recorded(30)
    session = Session([Path("run")], opener=lambda path: run, probe=lambda path: 1, clock=lambda: 0.0)
    app = WatchApp(session, clock=lambda: 0.0)
    draw = random.Random(7)
    entries = synthetic.entries()

    async def script(pilot: Pilot[str]) -> None:
        for step in range(300):
            await pilot.resize_terminal(draw.randint(1, 300), draw.randint(1, 90))
            if step % 10 == 0:
                run.written = entries[: 30 + step // 4]
                await pilot.press(str(draw.randint(0, 9)))
        await pilot.resize_terminal(100, 30)
        await pilot.press("1")
        await pilot.pause()
        assert shows(app, "1 Overview") and app.is_running

    drive(app, script)


@pytest.mark.parametrize("count", range(1, len(RECORDS), 7))
def test_every_page_stands_at_every_moment_of_a_run(count: int) -> None:
    for page in every_page(context_over(synthetic.recorded(count))):
        page.prepare(78, 20)
        assert page.count() > 0


def test_a_model_says_what_happened_and_never_raises(tmp_path: Path) -> None:
    """Whatever lies in the folder: a link to itself, a file where the journal is, no right to read."""
    for number, make in enumerate(
        (
            lambda path: path.symlink_to(path),
            lambda path: path.write_text("a file"),
            lambda path: (path / "journal").mkdir(parents=True),
            lambda path: (
                (path / "journal" / "data.mdb").parent.mkdir(parents=True),
                (path / "journal" / "data.mdb").mkdir(),
            ),
        )
    ):
        path = tmp_path / str(number)
        make(path)
        model = RunModel(path, lambda path: RunStore.open(path))
        for _ in range(30):
            model.advance()
        assert not model.entries and (model.hopeless or model.status == "waiting")
