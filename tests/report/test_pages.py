"""The report in the terminal and as a page: complete, self-contained, safe against what programs wrote."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from synthetic_journal import entries, records

from moevolve.records import Entry, Gated, Proposed, Record, RunStarted, VariantAdded
from moevolve.report import svg, terminal, trees
from moevolve.report.chart import chart, sparkline
from moevolve.report.html import page
from moevolve.report.sentences import amount, duration, sentence
from moevolve.report.summary import CurvePoint, fold

HOSTILE = '<script src="https://evil.example/x.js"></script>\x1b[2J[bold]\n& "quoted"'


def printed(what: RenderableType) -> str:
    file = io.StringIO()
    terminal.console(file).print(what)
    return file.getvalue()


def hostile() -> list[Entry]:
    """A run whose programs, skills and names try to break what shows them."""

    def taint(record: Record) -> Record:
        if isinstance(record, RunStarted):
            return msgspec.structs.replace(record, run=HOSTILE, suite=HOSTILE)
        if isinstance(record, VariantAdded | Proposed):
            return msgspec.structs.replace(record, operator=HOSTILE, summary=HOSTILE)
        if isinstance(record, Gated):
            return msgspec.structs.replace(record, reason=HOSTILE, vetoes=[HOSTILE])
        return record

    return entries([taint(record) for record in records()])


class Structure(HTMLParser):
    """Tags that are open at the end, and everything that points outside."""

    VOID = {"meta", "br", "img", "link", "input", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.outside += [
            f"{name}={value}" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("found", [entries(records()), hostile()], ids=["honest", "hostile"])
def test_the_page_is_well_formed_and_needs_nothing_from_outside(found: list[Entry]) -> None:
    text = page(fold(found), found)
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    assert structure.scripts == 0
    assert structure.outside == []
    assert "@import" not in text and "url(" not in text
    assert set(re.findall(r"https?://[^\s\"'<&]+", text.replace("evil.example", ""))) <= {
        "http://www.w3.org/2000/svg",
        "https:///x.js",
    }


def test_the_page_shows_scores_skills_gates_lineage_and_events() -> None:
    found = entries(records(cycles=2, gain=0.1))
    text = page(fold(found), found)
    for wanted in (
        "0.400",
        "0.600",
        "+0.200",
        "text/reverse",
        "ask 5 times and vote",
        "vetoed by number/add",
    ):
        assert wanted in text
    assert text.count("<svg") == 3
    assert "cycle 2 starts from" in text


def test_the_page_is_the_same_bytes_every_time() -> None:
    found = entries(records())
    assert page(fold(found), found) == page(fold(found), found)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_a_run_that_has_just_begun_has_a_page_and_a_screen(length: int) -> None:
    found = entries(records())[:length]
    summary = fold(found)
    assert summary.run in page(summary, found)
    assert summary.run in printed(terminal.report(summary))


def test_charts_are_elements_with_intervals_and_without_scripts() -> None:
    found = entries(records(cycles=3))
    for text in (svg.scores(fold(found).curve), svg.skills(fold(found).skills), svg.training(found) or ""):
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert 'class="ci"' in svg.scores(fold(found).curve)


def test_the_terminal_says_what_was_promoted_and_why() -> None:
    text = printed(terminal.show(fold(entries(records(cycles=2, gain=0.1)))))
    assert re.search(r"0\.400 \[0\.370, 0\.430\].*0\.600 \[0\.570, 0\.630\].*\+0\.200 \[\+0\.1", text)
    assert "Promoted: weights 2 of 2 proposed, program 1 of 2" in text
    assert re.search(
        r"program\s+v0002\s+vote: ask 5 times and vote\s+\+0\.060\s+181 : 1\s+60-31 of 480", text
    )
    assert "4 > 6" in text
    assert re.search(r"provenance\s+1,000\s+1", text)


def test_the_terminal_obeys_nothing_that_a_program_wrote() -> None:
    text = printed(terminal.report(fold(hostile())))
    assert "\x1b" not in text
    assert "[bold]" in text


def test_tables_of_runs_show_runs_that_cannot_be_read() -> None:
    summary = fold(entries(records()))
    text = printed(terminal.listing({"runs/a": summary, "runs/b": "written by a newer version"}))
    assert re.search(r"runs/a\s+finished\s+full\s+11", text)
    assert re.search(r"runs/b\s+written by a newer version", text)


def test_the_comparison_has_an_interval_with_every_score() -> None:
    found = {arm: fold(entries(records(arm=arm))) for arm in ("full", "weights", "program")}  # type: ignore[arg-type]
    for width in (80, 130):
        file = io.StringIO()
        Console(file=file, width=width, markup=False).print(terminal.comparison(found, width=width))
        assert len(re.findall(r"\[[+-]?0\.\d{3}, [+-]?0\.\d{3}\]", file.getvalue())) == 9


def test_the_skill_tree_is_drawn_by_branch() -> None:
    text = printed(trees.standing(fold(entries(records())), {}))
    assert re.search(r"^compose\s*$\n^  sort_reverse\s+4 > 6", text, re.MULTILINE)


def points() -> Iterator[CurvePoint]:
    for cycle in range(40):
        score = cycle / 40
        yield CurvePoint(
            cycle=cycle,
            split="dev" if cycle else "sealed",
            score=score,
            low=max(0.0, score - 0.05),
            high=min(1.0, score + 0.05),
            n=100,
            seconds=cycle,
            variant="v",
        )


@given(st.integers(10, 200), st.integers(2, 40), st.integers(0, 40))
def test_the_curve_fits_its_width_and_height(width: int, height: int, count: int) -> None:
    lines = chart(list(points())[:count], width=width, height=height)
    assert len(lines) == (height + 2 if count else 0)
    assert all(len(line) <= max(width, 10) for line in lines)


@given(st.lists(st.floats(-1, 2), max_size=30))
def test_a_sparkline_has_one_block_a_value(values: list[float]) -> None:
    assert len(sparkline(values)) == len(values)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (61, "1:01"), (3599.9, "1:00:00"), (-3, "0 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(950, "950"), (9_999, "9,999"), (12_345, "12.3k"), (999_600, "1M"), (1_924_736, "1.92M")],
)
def test_amounts(number: int, text: str) -> None:
    assert amount(number) == text


@given(st.integers(0, 10**15))
def test_an_amount_never_falls_back_on_an_exponent(number: int) -> None:
    assert "e" not in amount(number)


def test_every_record_is_one_line() -> None:
    for entry in hostile():
        assert sentence(entry.record).isprintable()
