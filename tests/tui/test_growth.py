"""The screens of a tree that has grown: leaves, levels, the growth column, and every change that was tried."""

from __future__ import annotations

import re

import synthetic_run as synthetic
from tui_harness import context_over

from moevolve.journal.drawing.lines import text_of
from moevolve.records import (
    Attempted,
    Controlled,
    Entry,
    Grown,
    GrowthScored,
    Record,
    SkillInfo,
    SkillScore,
    Tally,
    Timing,
)
from moevolve_tui.pages.page import Page
from moevolve_tui.pages.skills import SkillPage, SkillsPage

LEAF = "compose/caesar_then_sort"


def change(
    name: str, kind: str, skill: str, parents: list[str], levels: tuple[int, int], **other: object
) -> Grown:
    return Grown(
        cycle=8,
        growth=name,
        change=kind,  # type: ignore[arg-type]
        skill=skill,
        parents=parents,
        leaves=[SkillInfo(path=skill, summary="shift, then sort", levels=levels)],
        feature="",
        variant="v0007",
        decision=other.get("decision", "added"),  # type: ignore[arg-type]
        reason="40 of 48 attempts right",
        trial=[Tally(skill=skill, level=levels[1], attempts=48, successes=40)],
        tokens=900,
    )


GROWN: list[Record] = [
    change("g001", "compose", LEAF, ["text/caesar", "text/sort"], (1, 8)),
    change("g002", "levels", "text/caesar", ["text/caesar"], (1, 18)),
    change(
        "g003",
        "compose",
        "compose/sort_then_caesar",
        ["text/sort", "text/caesar"],
        (1, 8),
        decision="declined",
    ),
    Attempted(
        cycle=9,
        stage="grown program",
        variant="v0007",
        source="program",
        tallies=[Tally(skill=LEAF, level=3, attempts=20, successes=19)],
        tokens=100,
    ),
    GrowthScored(
        cycle=9,
        variant="v0007",
        skills={LEAF: SkillScore(score=0.75, n=32), "text/caesar": SkillScore(score=0.5, n=8)},
        tallies=[],
        missing=0,
        behaviour=None,
        tokens=100,
    ),
]


def run(*more: Record) -> synthetic.MemoryRun:
    found = synthetic.recorded(synthetic.middle())
    for record in [*GROWN, *more]:
        found.written.append(
            Entry(seq=len(found.written), record=record, timing=Timing(at=999.0), hash="0" * 64)
        )
    return found


def shown(page: Page, width: int = 100) -> str:
    page.prepare(width, 60)
    return "\n".join(text_of(page.line(index)) for index in range(page.count()))


def test_the_tree_has_grown_leaves_with_their_column_and_every_change_that_was_tried() -> None:
    text = shown(SkillsPage(context_over(run())))
    assert "grown 1 leaf, 1 with more levels" in text
    assert re.search(r"caesar_then_sort.* \.75 .*n=32 g001", text)
    assert "g001 cycle 8, added" in text and "opens levels up to 18" in text
    assert "g003 cycle 8, declined" in text
    assert "sort_then_caesar" not in text.split("Growth of the tree")[0], "what was declined is no leaf"


def test_a_leafs_page_says_how_it_came_its_column_and_its_posteriors() -> None:
    text = shown(SkillPage(context_over(run()), LEAF))
    assert "g001 cycle 8: compose/caesar_then_sort of text/caesar and then text/sort" in text
    assert "growth column: .75 n=32" in text and "in no score" in text
    assert "now (posterior)" in text and ".91 [.76, .99]" in text
    assert "opens levels up to 18" in shown(SkillPage(context_over(run()), "text/caesar"))


def test_what_was_rolled_back_leaves_the_tree_and_stays_on_record() -> None:
    taken = Controlled(cycle=9, request=1, command="rollback", variant="g001", done=True, champion="v0007")
    text = shown(SkillsPage(context_over(run(taken))))
    tree, changes = text.split("Growth of the tree")
    assert "caesar_then_sort" not in tree
    assert "g001 cycle 8, rolled back" in changes


def test_no_row_is_wider_than_the_screen() -> None:
    for width in (57, 80, 120):
        for page in (SkillsPage(context_over(run())), SkillPage(context_over(run()), LEAF)):
            page.prepare(width, 40)
            assert all(len(text_of(page.line(index))) <= width for index in range(page.count()))
