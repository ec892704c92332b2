"""A watcher beside a real writer, in two processes: it moves with the run, and leaves it alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic_run as synthetic
from textual.pilot import Pilot
from tui_harness import drive, screen_text, settled

pytest.importorskip("moevolve.journal.store")

from moevolve_tui.app import WatchApp
from moevolve_tui.attach import locate, open_run
from moevolve_tui.reader import Reader


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes a run, one record for every line it is sent."""
    script = Path(synthetic.__file__)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def watcher(path: Path) -> WatchApp:
    return WatchApp(Reader(locate(path, path.parent, wait=False), open_run), clock=lambda: 0.0)


def ask(writer: subprocess.Popen[str], records: int) -> int:
    """Has the writer write `records` more; returns how many entries its journal then holds."""
    assert writer.stdin is not None and writer.stdout is not None
    count = 0
    for _ in range(records):
        writer.stdin.write("\n")
        writer.stdin.flush()
        count = int(writer.stdout.readline())
    return count


def test_the_screen_moves_with_a_writer_and_q_leaves_it_alive(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    app = watcher(tmp_path / "run")

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries > 0 and app.model.status == "running")
        before = screen_text(app)
        count = ask(writer, 28)
        await settled(pilot, lambda: app.model.entries == count)
        after = screen_text(app)
        for rows, columns in (
            (slice(3, 12), slice(0, 38)),
            (slice(3, 18), slice(41, 80)),
            (slice(19, 23), slice(0, 80)),
        ):
            assert [line[columns] for line in before[rows]] != [line[columns] for line in after[rows]]
        await pilot.press("q")

    drive(app, script)
    assert app.return_code == 0
    assert writer.poll() is None
    assert ask(writer, 1) > app.model.entries


def test_a_killed_writer_is_seen_to_have_stopped(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    app = watcher(tmp_path / "run")

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.status == "running")
        writer.kill()
        writer.wait()
        await settled(pilot, lambda: app.model.status == "stopped")
        assert any("`moevolve resume` goes on" in line for line in screen_text(app))

    drive(app, script, (140, 30))


def test_a_finished_run_opens_without_a_writer(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    everything = list(synthetic.records())
    with open_run(tmp_path / "run") as run:
        begun = len(run)
    ask(writer, len(everything) - begun)
    writer.wait(timeout=30)
    app = watcher(tmp_path / "run")

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == len(everything))
        assert app.model.status == "finished"
        assert any("✔ finished" in line for line in screen_text(app))

    drive(app, script)
