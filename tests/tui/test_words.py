"""Words that a person has to read are whole, at the smallest common size as well, and short ones are spelled out."""

import runpy
from pathlib import Path

import msgspec
import pytest
import synthetic_run as synthetic
from rich.cells import cell_len
from textual.pilot import Pilot
from tui_harness import app_over, context_over, drive, screen_text, shows

import moevolve.agents
from moevolve.journal import samples
from moevolve.journal.drawing.lines import text_of
from moevolve.records import VariantAdded
from moevolve_tui.dialogs import HELP
from moevolve_tui.drawing.glossary import STAGES, spelled, verbs
from moevolve_tui.drawing.skills import skill_line, tree_rows
from moevolve_tui.pages.system import SystemPage
from moevolve_tui.pages.variant import SourcePage, VariantPage, in_order

SPACE = Path(moevolve.agents.__file__).parent / "operators" / "space.py"
SIZES = [(80, 24), (100, 40), (120, 32), (180, 50)]


@pytest.mark.parametrize("size", SIZES)
def test_titles_hints_and_what_comes_next_are_never_cut(size: tuple[int, int]) -> None:
    app = app_over(synthetic.recorded(None, "finished", alive=False))

    async def script(pilot: Pilot[str]) -> None:
        for number in range(10):
            await pilot.press(str(number))
            await pilot.pause()
            for pane in app.panes:
                assert "…" not in str(pane.border_title)
                assert cell_len(str(pane.border_title)) <= max(0, pane.size.width - 2) or not pane.display
            lines = screen_text(app)
            for word in ("space marks", "Next:", "trained", "enter: the diff", "+ rose"):
                assert not any("…" in line[line.index(word) :][:60] for line in lines if word in line)

    drive(app, script, size)


def test_help_is_whole_on_80_columns() -> None:
    app = app_over(synthetic.recorded(60))

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        for each in HELP.splitlines()[:15]:
            assert shows(app, each)

    drive(app, script, (80, 24))
    assert max(map(cell_len, HELP.splitlines())) <= 72


def test_only_the_newest_word_to_the_user_stands_on_the_screen() -> None:
    app = app_over(synthetic.recorded(None, "finished", alive=False))

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("6", "c", "p", "A")
        await pilot.pause()
        assert len(app._notifications) == 1

    drive(app, script)


def test_verbs_and_stages_of_a_summary_are_spelled_out() -> None:
    known = verbs(
        [
            ("number/subtract", "sub:1-1="),
            ("text/sort", "srt:ba="),
            ("a", "x:1"),
            ("b", "x:2"),
            ("c", "no verb"),
        ]
    )
    assert known == {"sub": "number/subtract", "srt": "text/sort"}
    words = spelled("sub: columns(size 2, above 4); srt: window(size 2)", known)
    assert words.startswith("sub number/subtract, srt text/sort; columns: column by column")
    assert "window: " in words
    assert spelled("sample and vote", {}) == "vote: " + STAGES["vote"]
    assert spelled("nothing known", known) == ""


def test_every_stage_that_a_program_may_be_given_is_spelled_out() -> None:
    assert set(runpy.run_path(str(SPACE))["STAGES"]) <= set(STAGES)


def test_a_variant_says_what_its_short_words_mean() -> None:
    run = synthetic.recorded(None, "finished", alive=False)
    for index, entry in enumerate(run.written):
        if isinstance(entry.record, VariantAdded) and entry.record.variant == "v0004":
            told = msgspec.structs.replace(entry.record, summary="rev: split(size 4)")
            run.written[index] = msgspec.structs.replace(entry, record=told)
    _, key, value = samples.put(4, "gate", "v0004", synthetic.attempts("gate"))
    assert value is not None
    run.tables[samples.TABLE][key] = value
    context = context_over(run)
    row = context.model.view.variants.row("v0004")  # type: ignore[union-attr]
    assert row is not None
    page = VariantPage(context, row)
    page.prepare(76, 20)
    shown = " ".join(text_of(page.line(index)) for index in range(page.count()))
    assert (
        "rev text/reverse; retry: asks again" in shown
        and "split: in parts, the answers joined" in " ".join(shown.split())
    )


def test_the_file_that_answers_comes_first_and_no_line_of_a_source_is_cut() -> None:
    assert sorted(["contract.py", "improve.py", "solve.py"], key=in_order)[0] == "solve.py"
    context = context_over(synthetic.recorded(None, "finished", alive=False))
    page = SourcePage(context, 4)
    for width in (76, 30, 16):
        page.prepare(width, 20)
        shown = [text_of(page.line(index)) for index in range(page.count())]
        assert not any("…" in each for each in shown[1:])


@pytest.mark.parametrize("width", [58, 76, 110])
def test_columns_of_the_skill_tree_stand_below_one_another(width: int) -> None:
    context = context_over(synthetic.recorded(None, "finished", alive=False))
    rows = [row for row in tree_rows(context.model.view) if row.now is not None]  # type: ignore[union-attr]
    whole = [msgspec.structs.replace(rows[1], before=0.0, now=1.0), *rows]
    assert len({text_of(skill_line(row, width)).index(" > ", 2) for row in whole if row.leaf}) == 1
    assert len({text_of(skill_line(row, width)).index(" n=") for row in whole if row.leaf}) == 1


def test_controls_are_offered_while_there_is_something_to_control() -> None:
    for status, offered in (("running", True), ("finished", False)):
        run = synthetic.recorded(None if status == "finished" else synthetic.middle(), status, alive=offered)
        page = SystemPage(context_over(run))
        page.prepare(76, 20)
        shown = [text_of(page.line(index)) for index in range(page.count())]
        assert any("p pause or resume" in each for each in shown) == offered
