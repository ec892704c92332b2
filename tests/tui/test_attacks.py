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
from impossible_numbers import NUMBERS, with_number
from memory_run import MemoryRun
from test_pages import every_page
from textual.pilot import Pilot
from tui_harness import context_over, drive, screen_text, settled, shows

from moevolve.journal.drawing.lines import text_of, width_of
from moevolve.journal.store import RunStore
from moevolve.journal.view import RunView
from moevolve.records import Record, RunStarted, State, Timing
from moevolve_tui.actions import COMMANDS
from moevolve_tui.app import WatchApp
from moevolve_tui.attach import session_of
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.model import RunModel, unread
from moevolve_tui.pages.page import undrawn
from moevolve_tui.screens import SCREENS
from moevolve_tui.session import Session

FIGURES = ("Runs", "Overview", "Skills", "Lineage", "Diff", "Memory", "Guards", "System")
RECORDS = list(synthetic.records())


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


@pytest.mark.long
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


@pytest.mark.long
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


def twisted(value: Any, draw: random.Random) -> Any:
    """A record, or a part of one, some of whose parts are others of their kind."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return draw.choice([0, -1, 7, 5000, -300]) if draw.random() < 0.1 else value
    if isinstance(value, float):
        return draw.choice([-1.0, 1e9, math.nan, math.inf]) if draw.random() < 0.1 else value
    if isinstance(value, str):
        return draw.choice(["v0003", "v9999", "", "x" * 300, "a/b/c", "/"]) if draw.random() < 0.1 else value
    if isinstance(value, msgspec.Struct):
        changed = {name: twisted(getattr(value, name), draw) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    if isinstance(value, dict):
        return {twisted(key, draw): twisted(each, draw) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(twisted(each, draw) for each in value)
    return value


def readable(record: Record) -> Record | None:
    """The record as it comes from a file; None where the schema refuses it."""
    try:
        return msgspec.convert(msgspec.to_builtins(record), type(record))
    except msgspec.ValidationError:
        return None


@pytest.mark.parametrize("seed", range(12))
def test_records_that_do_not_fit_together_end_a_page_and_never_the_screens(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moevolve_tui.pages.page.undrawn", undrawn)
    monkeypatch.setattr("moevolve_tui.model.unread", unread)
    draw = random.Random(seed)
    run = [synthetic.recorded, optimised.recorded][seed % 2]()
    entries = [
        msgspec.structs.replace(entry, record=made)
        for entry in run.written
        if draw.random() < 0.9 and (made := readable(twisted(entry.record, draw))) is not None
    ]
    run.written = [msgspec.structs.replace(entry, seq=seq) for seq, entry in enumerate(entries)]
    context = context_over(run)
    assert context.model is not None
    heading_lines(context.model, 1.0, 80)
    for page in every_page(context):
        page.prepare(76, 20)
        assert page.count() > 0 and page.heading()
        assert all(width_of(page.line(index)) <= 76 for index in range(page.count()))


def test_a_page_that_cannot_be_built_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moevolve_tui.pages.page.undrawn", undrawn)
    context = context_over(synthetic.recorded(60))
    page = SCREENS[8](context)
    monkeypatch.setattr(type(page), "_time", lambda self, width: 1 // 0)
    page.prepare(76, 20)
    shown = " ".join(text_of(page.line(index)) for index in range(page.count()))
    assert "cannot be drawn: ZeroDivisionError" in shown and "moevolve audit" in shown


def test_a_record_that_cannot_be_taken_ends_reading_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moevolve_tui.model.unread", unread)
    run = synthetic.recorded(60)
    take = RunView.take

    def taken(view: RunView, *row: Any) -> None:
        if view.entries == 40:
            raise KeyError("v9999")
        take(view, *row)

    monkeypatch.setattr(RunView, "take", taken)
    model = context_over(run).model
    assert model is not None and model.hopeless and model.entries == 40
    assert "up to record 40" in model.fault and "v9999" in model.fault


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
