from pathlib import Path

import pytest
import synthetic_run as synthetic
from memory_run import MemoryRun
from textual.pilot import Pilot
from textual.widgets import Input
from tui_harness import app_over, drive, screen_text, settled

from moevolve_tui.app import main
from moevolve_tui.help import HelpScreen
from moevolve_tui.reader import Reader

ENTRIES = synthetic.entries()
MIDDLE = synthetic.middle()


def folder_at(count: int) -> MemoryRun:
    return MemoryRun(ENTRIES[:count], synthetic.state_at(count))


def shows(lines: list[str], text: str) -> bool:
    return any(text in line for line in lines)


def test_new_entries_move_curve_tree_and_log() -> None:
    folder = folder_at(30)
    app = app_over(folder)

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == 30)
        before = screen_text(app)
        folder.written, folder.said = ENTRIES[:100], synthetic.state_at(100)
        await settled(pilot, lambda: app.model.entries == 100)
        after = screen_text(app)
        curve, tree, log = slice(4, 12), slice(4, 18), slice(20, 23)
        assert [line[:38] for line in before[curve]] != [line[:38] for line in after[curve]]
        assert [line[41:] for line in before[tree]] != [line[41:] for line in after[tree]]
        assert before[log] != after[log]
        assert shows(after[log], app.model.line(app.model.entries - 1).text[:40])

    drive(app, script)


def test_four_panes_share_80x24() -> None:
    app = app_over(folder_at(MIDDLE))

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == MIDDLE)
        assert all(pane.size.width >= 36 and pane.size.height >= 4 for pane in app.panes)
        lines = screen_text(app)
        assert len(lines) == 24 and max(map(len, lines)) <= 80
        for title in ("1 Score", "2 Skills", "3 Lineage", "4 Log"):
            assert shows(lines, title)

    drive(app, script)


@pytest.mark.parametrize("size", [(40, 12), (60, 24), (80, 15), (20, 5), (300, 100)])
def test_any_size_shows_something_and_survives(size: tuple[int, int]) -> None:
    app = app_over(folder_at(MIDDLE))

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == MIDDLE)
        for key in ("2", "3", "4", "1", "z", "z", "question_mark", "escape"):
            await pilot.press(key)
        assert shows(screen_text(app), "1 Score")

    drive(app, script, size)


def test_keys_focus_and_zoom_panes() -> None:
    app = app_over(folder_at(MIDDLE))

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == MIDDLE)
        await pilot.press("3")
        assert app.focused is app.panes[2]
        await pilot.press("tab")
        assert app.focused is app.panes[3]
        await pilot.press("tab", "shift+tab", "2", "z")
        await pilot.pause()
        assert [pane.display for pane in app.panes] == [False, True, False, False]
        await pilot.press("4")
        await pilot.pause()
        assert [pane.display for pane in app.panes] == [False, False, False, True]
        assert app.panes[3].size.height > 15
        await pilot.press("escape")
        await pilot.pause()
        assert all(pane.display for pane in app.panes)

    drive(app, script)


def test_the_filter_narrows_the_log_and_escape_clears_it() -> None:
    app = app_over(folder_at(100))

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == 100)
        await pilot.press("slash", *"promoted", "q")
        assert app.is_running and app.query_one(Input).value == "promotedq"
        await pilot.press("backspace", "enter")
        promoted = [seq for seq in range(100) if "PROMOTED" in app.model.line(seq).text]
        assert app.log_pane.count() == len(promoted) > 0
        assert app.focused is app.log_pane
        await pilot.press("escape")
        assert app.log_pane.count() == 100

    drive(app, script)


def test_scrolling_back_stops_following_and_f_goes_on() -> None:
    folder = folder_at(60)
    app = app_over(folder)

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == 60)
        assert app.log_pane.scroll_offset.y == app.log_pane.max_scroll_y
        await pilot.press("4", "k", "k")
        await settled(pilot, lambda: not app.log_pane.follow)
        stood = app.log_pane.scroll_offset.y
        folder.written = ENTRIES[:90]
        await settled(pilot, lambda: app.model.entries == 90)
        assert app.log_pane.scroll_offset.y == stood
        await pilot.press("f")
        await settled(pilot, lambda: app.log_pane.scroll_offset.y == app.log_pane.max_scroll_y)

    drive(app, script)


def test_help_opens_over_the_run_and_q_closes_only_it() -> None:
    app = app_over(folder_at(10))

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("q")
        assert not isinstance(app.screen, HelpScreen) and app.is_running

    drive(app, script)


def test_news_that_comes_while_help_is_open_is_taken() -> None:
    folder = folder_at(10)
    app = app_over(folder)

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == 10)
        await pilot.press("question_mark")
        folder.written = ENTRIES[:40]
        await settled(pilot, lambda: app.model.entries == 40)
        await pilot.press("escape")
        await pilot.pause()
        assert shows(screen_text(app), app.model.line(app.model.entries - 1).text[:40])

    drive(app, script)


def test_a_picture_is_written_beside_the_watcher(tmp_path: Path) -> None:
    app = app_over(folder_at(MIDDLE), screenshots=tmp_path)

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == MIDDLE)
        await pilot.press("s", "s")
        await pilot.pause()
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "moevolve-first-1.svg",
            "moevolve-first-2.svg",
        ]
        assert (tmp_path / "moevolve-first-1.svg").read_text(encoding="utf-8").startswith("<svg")

    drive(app, script)


def test_a_picture_that_cannot_be_written_is_said_and_survived(tmp_path: Path) -> None:
    app = app_over(folder_at(MIDDLE), screenshots=tmp_path / "missing")

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("s")
        await settled(pilot, lambda: shows(screen_text(app), "No picture"))
        assert app.is_running

    drive(app, script)


def test_waiting_is_said_and_ends_with_the_first_record() -> None:
    folder = MemoryRun(alive=False)
    started: list[Path] = []
    app = app_over(None)
    app._reader = Reader(lambda: started[0] if started else None, lambda _: folder)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.pause()
        assert shows(screen_text(app), "Waiting for a run in runs/first")
        folder.written, folder.said, folder.alive = ENTRIES[:5], synthetic.state_at(5), True
        started.append(Path("runs/first"))
        await settled(pilot, lambda: app.model.entries == 5)
        assert shows(screen_text(app), "● running")

    drive(app, script)


def test_markup_in_a_filter_is_only_text() -> None:
    app = app_over(folder_at(10))

    async def script(pilot: Pilot[str]) -> None:
        await settled(pilot, lambda: app.model.entries == 10)
        await pilot.press("slash", "left_square_bracket", "b", "right_square_bracket")
        await pilot.pause()
        assert shows(screen_text(app), "[b]")

    drive(app, script)


def test_without_a_terminal_there_is_one_message_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Path("anything")) == 2
    said = capsys.readouterr()
    assert said.out == "" and "draws on a terminal" in said.err
