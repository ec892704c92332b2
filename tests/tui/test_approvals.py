"""A promotion that a person approved is a change like any other: its gain, its pairs, its diff."""

from __future__ import annotations

import msgspec
import synthetic_run as synthetic
from memory_run import MemoryRun, read_entries
from textual.pilot import Pilot
from tui_harness import app_over, context_over, drive

from moevolve.records import Controlled, Entry, Gated, RolledBack, Timing
from moevolve.report import sources
from moevolve_tui.drawing.rows import text_of
from moevolve_tui.pages.overview import OverviewPage
from moevolve_tui.pages.skills import SkillPage
from moevolve_tui.targets import VariantTarget


def approved() -> tuple[MemoryRun, Gated]:
    """A run in which a person let a program stand that the gate held."""
    run = synthetic.recorded(synthetic.middle())
    gated = next(
        entry.record
        for entry in run.written
        if isinstance(entry.record, Gated) and entry.record.level == "program"
    )
    held = msgspec.structs.replace(gated, decision="hold", gain=0.0625, n=432)
    done = Controlled(
        cycle=4,
        request=1,
        command="approve",
        variant=held.candidate,
        done=True,
        champion=held.candidate,
        level="program",
    )
    for record in (held, done):
        seq = len(run.written)
        run.written.append(Entry(seq=seq, record=record, timing=Timing(at=999.0), hash=f"h{seq}"))
    return run, held


def test_what_changed_has_its_gain_and_opens_its_diff() -> None:
    run, held = approved()
    context = context_over(run)
    page = OverviewPage(context)
    page.prepare(100, 40)
    row = next(row for row in page.rows if held.candidate in text_of(row.line) and "+" in text_of(row.line))
    assert "n=432" in text_of(row.line) and isinstance(row.target, VariantTarget)
    skill = SkillPage(context, "number/add")
    skill.prepare(100, 40)
    assert any(f"moved by {held.candidate}" in text_of(row.line) for row in skill.rows)

    app = app_over(run)

    async def script(pilot: Pilot[str]) -> None:
        pane = app.chosen_pane
        pane.cursor = next(
            index
            for index, row in enumerate(pane.page.rows)
            if isinstance(row.target, VariantTarget) and row.target.name == held.candidate
        )
        await pilot.press("enter")
        await pilot.pause()
        assert app.chosen_pane.page.NAME == "Diff"

    drive(app, script, (100, 40))


def test_the_report_has_its_diff() -> None:
    run, held = approved()
    found = sources.changes(read_entries(run.written))
    assert (found[-1].variant, found[-1].gain, found[-1].n) == (held.candidate, 0.0625, 432)


def test_a_decision_that_is_taken_back_is_drawn_anew() -> None:
    """Fates change by a person's word and by a roll back, without a decision of the gate."""
    run, held = approved()
    context = context_over(run)
    assert context.model is not None
    from moevolve_tui.screens import SCREENS

    pages = [SCREENS[3](context), SCREENS[4](context)]
    before = [page.depends() for page in pages]
    back = RolledBack(cycle=5, before=held.candidate, champion=held.champion, reason="by request")
    run.written.append(Entry(seq=len(run.written), record=back, timing=Timing(at=1000.0), hash="back"))
    while context.session.step()[0]:
        pass
    assert all(page.depends() != old for page, old in zip(pages, before, strict=True))
