"""Every key and the mouse, at three sizes.

One file above 400 lines: every key is tried on the same recorded run, at the same sizes.
"""

from pathlib import Path

import pytest
import synthetic_run as synthetic
from textual.pilot import Pilot
from textual.widgets import Input
from tui_harness import app_over, drive, read, screen_text, settled, shows

from moevolve_tui import saved
from moevolve_tui.actions import COMMANDS
from moevolve_tui.app import WatchApp
from moevolve_tui.dialogs import ConfirmScreen, HelpScreen
from moevolve_tui.pages.log import LogPage
from moevolve_tui.screens import BESIDE, SCREENS
from moevolve_tui.targets import VariantTarget

MIDDLE = synthetic.middle()
SIZES = [(80, 24), (120, 32), (180, 50)]


def app_at(count: int | None = MIDDLE, **options: object) -> WatchApp:
    finished = synthetic.recorded(None, "finished", alive=False)
    return app_over(synthetic.recorded(count), finished, **options)  # type: ignore[arg-type]


def on(app: WatchApp) -> str:
    """The page that the focused pane shows."""
    return app.chosen_pane.page.NAME


@pytest.mark.parametrize("size", SIZES)
def test_numbers_show_screens_and_tab_goes_round_the_panes(size: tuple[int, int]) -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        for number, page in enumerate(SCREENS):
            await pilot.press(str(number))
            await pilot.pause()
            assert on(app) == page.NAME
            visible = [pane for pane in app.panes if pane.display]
            wanted = 1 if number == 0 else {80: 1, 120: 2, 180: 3}[size[0]]
            assert len(visible) == wanted
            assert [pane.page.NUMBER for pane in visible] == [number, *BESIDE[number]][:wanted]
            lines = screen_text(app)
            assert len(lines) == size[1] and max(map(len, lines)) <= size[0]
        await pilot.press(*["tab"] * wanted)
        assert app.focused is app.panes[0]
        await pilot.press("shift+tab")
        assert app.focused is visible[-1]

    drive(app, script, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_zoomed_pane_takes_the_whole_screen_at_every_size(size: tuple[int, int]) -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        for number in (1, 3, 9):
            await pilot.press(str(number), "z")
            await pilot.pause()
            assert [pane.display for pane in app.panes].count(True) == 1
            pane = app.chosen_pane
            assert pane.size.width >= size[0] - 2 and pane.size.height >= size[1] - 6
            await pilot.press("escape")
            await pilot.pause()
            assert not app.zoomed

    drive(app, script, size)


@pytest.mark.parametrize("size", SIZES)
def test_enter_opens_what_the_cursor_is_on_and_escape_steps_out(size: tuple[int, int]) -> None:
    app = app_at()
    opened = {1: "Diff", 2: "Skill", 3: "Variant", 4: "Variant", 5: "Cycle", 7: "Record", 9: "Record"}

    async def script(pilot: Pilot[str]) -> None:
        for number, name in opened.items():
            await pilot.press(str(number))
            await pilot.pause()
            if number == 2:
                await pilot.press("j")
            await pilot.press("enter")
            await pilot.pause()
            assert on(app) == name, number
            await pilot.press("escape")
            await pilot.pause()
            assert on(app) == SCREENS[number].NAME

    drive(app, script, size)


def test_inspectors_open_from_inspectors() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("3", "j", "j", "enter")
        await pilot.pause()
        assert on(app) == "Variant"
        await pilot.press("x")
        assert on(app) == "Source" and shows(app, "ROUTES")
        await pilot.press("escape", "d")
        assert on(app) == "Diff"
        await pilot.press("a")
        await pilot.pause()
        assert on(app) == "Attempts" and shows(app, "rev:abcabcabc=")
        await pilot.press("enter")
        await pilot.pause()
        assert on(app) == "Attempt"
        await pilot.press(*["escape"] * 4)
        assert on(app) == "Lineage"

    drive(app, script)


def test_the_cursor_moves_and_stays_in_view() -> None:
    app = app_at(None)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("3")
        await pilot.pause()
        pane = app.chosen_pane
        first = pane.cursor
        await pilot.press("j", "down")
        assert pane.cursor == first + 2
        await pilot.press("k", "up")
        assert pane.cursor == first
        await pilot.press("G")
        await pilot.pause()
        assert pane.cursor == pane.page.count() - 1
        assert pane.scroll_offset.y <= pane.cursor < pane.scroll_offset.y + pane.size.height
        await pilot.press("g")
        assert pane.cursor == first
        await pilot.press("pagedown", "pageup")
        assert shows(app, "> ")

    drive(app, script)


def test_the_cursor_stays_on_what_it_was_moved_to_while_rows_appear_above() -> None:
    """Untouched it stands on the newest change; once moved it keeps its change."""
    run = synthetic.recorded(24)
    app = app_over(run)

    async def script(pilot: Pilot[str]) -> None:
        async def grown_to(count: int) -> None:
            run.written, run.said = synthetic.entries()[:count], synthetic.state_at(count)
            await read(pilot, app)

        pane = app.chosen_pane
        await grown_to(60)
        first = pane.page.target(pane.cursor)
        assert isinstance(first, VariantTarget) and first.name == app.session.current.view.champion  # type: ignore[union-attr]
        await pilot.press("j", "k")
        held = pane.page.target(pane.cursor)
        await grown_to(len(synthetic.entries()))
        assert pane.page.target(pane.cursor) == held
        assert held is not None and held.name != app.session.current.view.champion  # type: ignore[union-attr]

    drive(app, script, (100, 40))


def test_branches_fold_and_curves_are_read_off() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("2")
        await pilot.pause()
        before = app.chosen_pane.page.count()
        await pilot.press("left")
        await pilot.pause()
        assert app.chosen_pane.page.count() == before - 3
        await pilot.press("right")
        assert app.chosen_pane.page.count() == before
        await pilot.press("1", "left")
        await pilot.pause()
        assert shows(app, "cycle 4: dev .550 [.51, .58] n=480")
        await pilot.press("left")
        assert app.context.cursor_cycle == 3
        await pilot.press("right", "right")
        assert app.context.cursor_cycle is None

    drive(app, script)


def test_the_filter_narrows_the_log_and_escape_clears_it() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("9", "slash", *"promoted", "q")
        assert app.is_running and app.query_one("#prompt", Input).value == "promotedq"
        await pilot.press("backspace", "enter")
        page = app.chosen_pane.page
        await settled(pilot, lambda: not page.scanning)  # type: ignore[attr-defined]
        model = app.session.current
        assert model is not None
        promoted = [seq for seq in range(MIDDLE) if "PROMOTED" in model.line(seq).text]
        assert page.count() == len(promoted) > 0
        await pilot.press("n", "N", "escape")
        await pilot.pause()
        assert page.count() == MIDDLE
        await pilot.press("e")
        await settled(pilot, lambda: not page.scanning)  # type: ignore[attr-defined]
        assert 0 < page.count() < MIDDLE

    drive(app, script)


def test_find_goes_from_hit_to_hit() -> None:
    app = app_at(None)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("3", "slash", *"c5", "enter")
        await pilot.pause()
        pane = app.chosen_pane
        first = pane.cursor
        assert "c5" in pane.page.words(first)
        await pilot.press("n")
        second = pane.cursor
        assert second != first and "c5" in pane.page.words(second)
        await pilot.press("N")
        assert pane.cursor == first
        await pilot.press("escape")
        assert not pane.find

    drive(app, script)


def test_the_log_follows_until_somebody_reads_back() -> None:
    run = synthetic.recorded(60)
    app = app_over(run)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("9")
        await pilot.pause()
        page = app.chosen_pane.page
        assert isinstance(page, LogPage) and page.follow and shows(app, "following")
        await pilot.press("k", "k")
        assert not page.follow and shows(app, "standing still")
        run.written = synthetic.entries()[:100]
        await settled(pilot, lambda: page.count() == 100)
        assert not page.follow
        await pilot.press("f")
        await pilot.pause()
        assert page.follow
        last = app.session.current.line(99).text[:40]  # type: ignore[union-attr]
        assert shows(app, last)

    drive(app, script)


def test_a_frozen_picture_stays_while_data_goes_on() -> None:
    run = synthetic.recorded(60)
    app = app_over(run)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("space")
        model = app.session.current
        assert model is not None and model.frozen
        run.written = synthetic.entries()[:100]
        await settled(pilot, lambda: shows(app, "frozen, 40 new"))
        assert model.entries == 60
        await pilot.press("space")
        await settled(pilot, lambda: model.entries == 100)

    drive(app, script)


def test_new_entries_move_every_part_of_the_overview() -> None:
    run = synthetic.recorded(30)
    app = app_over(run)

    async def script(pilot: Pilot[str]) -> None:
        before = screen_text(app)
        run.written, run.said = synthetic.entries()[:100], synthetic.state_at(100)
        await read(pilot, app)
        after = screen_text(app)
        assert sum(a != b for a, b in zip(before, after, strict=True)) > 10

    drive(app, script)


def test_runs_are_marked_overlaid_compared_and_looked_at() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("0", "space", "j", "space")
        await pilot.pause()
        assert len(app.session.marked) == 2 and shows(app, "Marked runs, dev score by cycle")
        await pilot.press("c")
        await pilot.press("1", "o")
        await pilot.pause()
        assert app.context.overlay
        await pilot.press("0", "g", "enter")
        await pilot.pause()
        assert app.session.current is app.session.runs[-1] and on(app) == "Overview"
        await read(pilot, app)
        assert shows(app, "✔ finished")

    drive(app, script)


def test_two_variants_are_compared() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("3", "m", "j", "j", "c")
        await pilot.pause()
        assert on(app) == "Diff" and shows(app, "v0000 > v")

    drive(app, script)


def test_replay_steps_plays_seeks_and_ends() -> None:
    app = app_at(None)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("t", "T", *"c3", "enter")
        playback = app.playback
        assert playback is not None
        await settled(pilot, lambda: playback.model.view.cycle == 3)
        app.renew()
        await pilot.pause()
        assert shows(app, "cycle 3/8") and shows(app, "replay")
        here = playback.position
        await pilot.press("full_stop", "full_stop", "comma")
        await settled(pilot, lambda: playback.model.entries == here + 1)
        await pilot.press("less_than_sign")
        await settled(pilot, lambda: playback.model.entries == here)
        await pilot.press("greater_than_sign", "plus", "minus", "space")
        assert playback.playing
        await settled(pilot, lambda: playback.position > here + 40)
        await pilot.press("space", "escape")
        assert app.playback is None and app.session.replay is None

    drive(app, script)


def test_a_replay_that_stands_at_the_end_plays_from_the_beginning() -> None:
    app = app_at(None)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("t", "space")
        playback = app.playback
        assert playback is not None and playback.playing
        assert playback.position < playback.source.entries // 2
        await settled(pilot, lambda: playback.position > 20)

    drive(app, script)


def test_keys_work_again_once_the_terminal_is_large_enough() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.resize_terminal(40, 10)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        before = app.chosen_pane.cursor
        await pilot.press("j", "j")
        assert app.focused is app.chosen_pane and app.chosen_pane.cursor > before

    drive(app, script)


def test_training_is_read_off_at_the_cursor() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("5", "right", "right")
        await pilot.pause()
        assert app.context.cursor_cycle is not None
        assert shows(app, f"cycle {app.context.cursor_cycle}: loss ")

    drive(app, script, (120, 40))


def test_an_overlaid_curve_goes_on_with_its_run() -> None:
    other = synthetic.recorded(MIDDLE - 60)
    app = app_over(synthetic.recorded(MIDDLE), other)

    async def script(pilot: Pilot[str]) -> None:
        app.session.marked = {app.session.runs[1].path}
        await pilot.press("o")
        before = app.pages[1].depends()
        other.written = synthetic.recorded(MIDDLE).written
        await settled(pilot, lambda: app.session.runs[1].entries == len(other.written))
        assert app.pages[1].depends() != before

    drive(app, script)


def test_the_rest_of_the_keys() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("5", "l")
        assert app.context.log_axis and app.chosen_pane.page.heading().endswith("logarithmic axis")
        await pilot.press("2", "O")
        await pilot.pause()
        assert shows(app, "sorts: gain")
        await pilot.press("4", "right_square_bracket", "left_square_bracket", "y", "v")
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("j", "k", "escape")
        await pilot.press("colon")
        await pilot.pause()
        assert type(app.screen).__name__ == "CommandPalette"
        await pilot.press("escape")

    drive(app, script)


@pytest.mark.parametrize("key", ["p", "P", "h"])
def test_what_is_asked_of_a_run_is_asked_first(key: str) -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press(key)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("9", "n")
        assert not isinstance(app.screen, ConfirmScreen) and on(app) == "Overview"

    drive(app, script)


def test_the_palette_holds_every_action_and_every_action_has_a_key_in_help() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        commands = {command.title for command in app.get_system_commands(app.screen)}
        assert {words for _, _, _, words, _, _ in COMMANDS} <= commands
        assert {f"{number} {page.NAME}" for number, page in enumerate(SCREENS)} <= commands

    drive(app, script)
    for _, key, action, _, _, _ in COMMANDS:
        assert hasattr(WatchApp, f"action_{action.partition('(')[0]}"), key


def test_the_mouse_chooses_opens_and_scrolls() -> None:
    app = app_at(None)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("3")
        await pilot.pause()
        pane = app.chosen_pane
        await pilot.click(pane, offset=(8, 4))
        await pilot.pause()
        chosen = pane.cursor
        assert chosen == 3
        await pilot.click(pane, offset=(8, 4))
        await pilot.pause()
        assert on(app) == "Variant"

    drive(app, script)


@pytest.mark.parametrize("size", [(59, 24), (80, 15), (20, 5), (1, 1)])
def test_below_the_least_size_a_sentence_stands(size: tuple[int, int]) -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        for key in ("2", "3", "z", "question_mark", "escape", "0", "1"):
            await pilot.press(key)
        assert not app.query_one("#panes").display
        if size[0] >= 20:
            assert shows(app, f"{size[0]}x{size[1]} is too")

    drive(app, script, size)


def test_many_sizes_in_a_row_leave_it_standing() -> None:
    app = app_at()

    async def script(pilot: Pilot[str]) -> None:
        for step in range(12):
            await pilot.resize_terminal(1 + step * 37 % 300, 1 + step * 53 % 90)
            await pilot.press(str(step % 10))
        await pilot.resize_terminal(100, 30)
        await pilot.press("1")
        await pilot.pause()
        assert shows(app, "1 Overview")

    drive(app, script)


def test_a_picture_lands_beside_where_the_screens_were_started(tmp_path: Path) -> None:
    app = app_over(synthetic.recorded(MIDDLE), screenshots=tmp_path)

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("s", "s")

    drive(app, script)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [
        "moevolve-first-1.svg",
        "moevolve-first-2.svg",
    ]


def test_theme_screen_axis_and_keys_are_kept(tmp_path: Path) -> None:
    settings = tmp_path / "kept" / "screens.json"

    async def change(pilot: Pilot[str]) -> None:
        first.theme = "textual-light"
        await pilot.press("5", "l", "q")

    first = app_over(synthetic.recorded(MIDDLE), settings=settings)
    drive(first, change)
    kept, fault = saved.load(settings)
    assert not fault
    assert (kept.theme, kept.screen, kept.log_axis) == ("textual-light", 5, True)
    kept.keymap = {"zoom": "Z"}
    assert not saved.store(settings, kept)
    again = app_over(synthetic.recorded(MIDDLE), settings=settings)

    async def look(pilot: Pilot[str]) -> None:
        assert again.theme == "textual-light" and on(again) == "Train" and again.context.log_axis
        await pilot.press("Z")
        assert again.zoomed

    drive(again, look)


def test_settings_that_cannot_be_read_or_written_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"screen": "seven"')
    assert saved.load(tmp_path / "bad.json")[0] == saved.Saved()
    assert saved.load(tmp_path / "none.json") == (saved.Saved(), "")
    (tmp_path / "file").write_text("")
    assert saved.store(tmp_path / "file" / "below.json", saved.Saved())


def test_settings_that_cannot_be_read_are_not_written_over(tmp_path: Path) -> None:
    settings = tmp_path / "screens.json"
    settings.write_text('{"keymap": {"zoom": "Z"},}')
    app = app_over(synthetic.recorded(MIDDLE), settings=settings)

    async def script(pilot: Pilot[str]) -> None:
        assert shows(app, "Settings stay as they are")
        await pilot.press("q")

    drive(app, script, (120, 32))
    assert settings.read_text() == '{"keymap": {"zoom": "Z"},}'


def test_a_theme_that_the_terminal_asks_for_is_not_kept(tmp_path: Path) -> None:
    settings = tmp_path / "screens.json"
    saved.store(settings, saved.Saved(theme="textual-light", zoomed=True))
    app = app_over(synthetic.recorded(MIDDLE), settings=settings)
    app.forced_theme = "ansi-dark"

    async def script(pilot: Pilot[str]) -> None:
        assert app.theme == "ansi-dark" and app.zoomed
        await pilot.press("q")

    drive(app, script)
    assert saved.load(settings)[0].theme == "textual-light"
