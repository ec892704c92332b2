"""What the TUI's tests share: a store in memory, the app at a fixed size and time, and SVG snapshots."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from moevolve.records import Entry, State
from textual.pilot import Pilot

sys.path.insert(0, str(Path(__file__).parent))

from moevolve_tui.app import WatchApp  # noqa: E402
from moevolve_tui.reader import Reader  # noqa: E402

SNAPSHOTS = Path(__file__).parent / "snapshots"


class MemoryFolder:
    """A run folder in memory: tests add entries, the reader reads them."""

    def __init__(self, entries: Sequence[Entry] = (), state: State | None = None, alive: bool = True) -> None:
        self.written = list(entries)
        self.said = state
        self.alive = alive

    def __len__(self) -> int:
        return len(self.written)

    def entries(self, start: int = 0, limit: int | None = None) -> Sequence[Entry]:
        return self.written[start:] if limit is None else self.written[start : start + limit]

    def state(self) -> State | None:
        return self.said

    def writer_alive(self) -> bool:
        return self.alive


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def watching(tmp_path: Path) -> Callable[..., WatchApp]:
    """An app over a folder in memory, its clock standing still."""

    def build(folder: MemoryFolder | None, *, place: str = "runs/first") -> WatchApp:
        found = tmp_path if folder is not None else None
        reader = Reader(lambda: found, lambda _: folder)  # type: ignore[arg-type, return-value]
        return WatchApp(reader, place=place, clock=lambda: 100.0, screenshots=tmp_path)

    return build


async def settled(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    """Lets the app work until `condition` holds; fails when it does not come true."""
    for _ in range(500):
        await pilot.pause(0.02)
        if condition():
            await pilot.pause()
            return
    raise AssertionError("the app did not get there")


def normalised(svg: str) -> str:
    """The picture without what differs from call to call: generated class names and trailing spaces."""
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


@pytest.fixture
def matches_snapshot(request: pytest.FixtureRequest) -> Callable[[WatchApp, str], None]:
    """Compares the screen with tests/tui/snapshots/NAME.svg. `MOEVOLVE_SNAPSHOTS=write` writes it anew."""

    def compare(app: WatchApp, name: str) -> None:
        file = SNAPSHOTS / f"{name}.svg"
        shown = normalised(app.export_screenshot(title="moevolve watch"))
        if os.environ.get("MOEVOLVE_SNAPSHOTS") == "write":
            SNAPSHOTS.mkdir(exist_ok=True)
            file.write_text(shown, encoding="utf-8", newline="\n")
            return
        assert file.exists(), f"no snapshot {file.name}: make it with MOEVOLVE_SNAPSHOTS=write"
        stored = file.read_text(encoding="utf-8")
        if shown != stored:
            change = "\n".join(
                list(difflib.unified_diff(texts(stored), texts(shown), "stored", "shown", lineterm=""))[:60]
            )
            pytest.fail(
                f"{name} looks different; if that is meant, rewrite with MOEVOLVE_SNAPSHOTS=write\n{change}"
            )

    return compare


def texts(svg: str) -> list[str]:
    """The text lines of a picture, for a difference that a person can read."""
    rows: dict[str, str] = {}
    for row, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows[row] = rows.get(row, "") + text.replace("&#160;", " ")
    return list(rows.values())
