"""Runs whose programs an evaluator scores: each screen says what there is, and nothing that there is not."""

import optimised_run as optimised
import pytest
import synthetic_run as synthetic
from hostile_run import STEERING
from test_pages import SIZES, every_page
from textual.pilot import Pilot
from tui_harness import app_over, context_over, drive, shows

from moevolve.journal.drawing.lines import text_of, width_of
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.drawing.words import next_steps
from moevolve_tui.pages.diff import DiffPage
from moevolve_tui.pages.page import Page
from moevolve_tui.pages.runs import RunsPage
from moevolve_tui.pages.variant import VariantPage
from moevolve_tui.screens import SCREENS


def text(page: Page, size: tuple[int, int] = (100, 40)) -> str:
    page.prepare(*size)
    return "\n".join(text_of(page.line(index)) for index in range(page.count()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 30, None])
def test_every_page_has_rows_at_every_size(size: tuple[int, int], count: int | None) -> None:
    context = context_over(optimised.recorded(count))
    assert context.model is not None
    lines = heading_lines(context.model, 60.0, size[0])
    for page in every_page(context):
        page.prepare(*size)
        assert page.count() > 0
        assert all(width_of(page.line(index)) <= size[0] for index in range(page.count()))
        lines += [page.line(index) for index in range(page.count())]
    assert not any(STEERING.search(text_of(line)) for line in lines)


def test_the_heading_has_both_scores_and_how_sure_the_champions_is() -> None:
    context = context_over(optimised.recorded())
    assert context.model is not None
    shown = "\n".join(text_of(line) for line in heading_lines(context.model, 60.0, 120))
    assert "30 evaluations" in shown and "cycle" not in shown
    assert "Score 0.3 > 0.73, mean of 8 fresh evaluations, p 0.0031" in shown
    assert "3 of 3 decisions promoted, 3 of 30 evaluations failed" in shown


def test_the_overview_draws_the_champions_score_and_lists_decisions_operators_and_failures() -> None:
    shown = text(SCREENS[1](context_over(optimised.recorded())), (118, 40))
    assert "Champion's score by evaluation" in shown and "dev" not in shown
    assert "0.73, +0.12 over v9, n=8, p 0.0031" in shown and "the same twice" in shown
    assert "3 failed: 1 timeout, 1 crashed, 1 not a number" in shown
    assert "Worked: tried, scored, promoted" in shown and "constants" in shown
    assert "serve" not in shown.split("Next:")[1]


def test_screens_without_a_subject_say_so_and_show_what_there_is() -> None:
    context = context_over(optimised.recorded())
    skills = text(SCREENS[2](context))
    assert "there is no skill tree" in skills and "depth" in skills and "v20" in skills
    assert "there are no weights" in text(SCREENS[5](context))
    assert "keeps no lessons" in text(SCREENS[6](context))
    guards = text(SCREENS[7](context))
    assert "1 timeout" in guards and "v20 promoted" in guards and "false promotion" not in guards
    system = text(SCREENS[8](context))
    assert "evaluations a minute" in system and "tokens drawn" not in system


def test_the_lineage_has_each_programs_score_and_failure() -> None:
    context = context_over(optimised.recorded())
    page = SCREENS[3](context)
    shown = text(page, (118, 60))
    assert "3 failed" in shown and "score 0.73" in shown and "★ v20" in shown


def test_a_program_has_what_its_evaluator_said_and_printed() -> None:
    context = context_over(optimised.recorded())
    variants = context.model.view.variants  # type: ignore[union-attr]
    champion, failed = variants.row("v20"), variants.row("v5")
    assert champion is not None and failed is not None
    shown = text(VariantPage(context, champion))
    for words in (
        "score 0.73",
        "depth",
        "valid",
        "artifact trace",
        "hello from the evaluator",
        "p 0.0031",
    ):
        assert words in shown
    assert "screening" not in shown and "cycle" not in shown
    assert "failed: timeout" in text(VariantPage(context, failed))


def test_a_diff_has_scores_and_metrics_of_both_programs() -> None:
    context = context_over(optimised.recorded())
    variants = context.model.view.variants  # type: ignore[union-attr]
    before, after = variants.row("v9"), variants.row("v20")
    assert before is not None and after is not None
    shown = text(DiffPage(context, (before, after)))
    assert "-    1  X = 9.0" in shown and "+    1  X = 20.0" in shown
    assert "score 0.61 > 0.73, +0.12" in shown and "Weights" not in shown


def test_the_list_has_it_beside_other_runs() -> None:
    shown = text(RunsPage(context_over(optimised.recorded(), synthetic.recorded())), (130, 20))
    assert "0.3 > 0.73" in shown and "+0.43, mean of 8" in shown


def test_a_finished_one_offers_no_server() -> None:
    context = context_over(optimised.recorded())
    assert context.model is not None
    assert [key for key, _ in next_steps(context.model)] == ["4", "h"]


def test_its_keys_work_as_elsewhere() -> None:
    app = app_over(optimised.recorded())

    async def script(pilot: Pilot[str]) -> None:
        await pilot.press("1", "enter")
        await pilot.pause()
        assert app.chosen_pane.page.NAME == "Diff" and shows(app, "X = 20.0")
        await pilot.press("a")
        await pilot.pause()
        assert shows(app, "An evaluator scores whole programs")
        await pilot.press("escape", "escape", "v", "0", "2", "5", "6", "7", "8", "9")
        await pilot.pause()
        assert shows(app, "PROMOTED v20")

    drive(app, script)
