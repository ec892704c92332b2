"""The report in the terminal and as a page: complete, self-contained, safe against what programs wrote."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import optimised_run as optimised
import pytest
import synthetic_run as synthetic
from hypothesis import given
from hypothesis import strategies as st
from impossible_numbers import NUMBERS, with_number
from markupsafe import escape
from memory_run import MemoryRun, read_entries, summarised
from rich.console import Console, RenderableType
from synthetic_journal import entries, records

from moevolve.cli.live import sparkline
from moevolve.journal.reader import read
from moevolve.journal.view import describe
from moevolve.records import (
    Entry,
    Evaluated,
    Gated,
    Interval,
    Nulls,
    Proposed,
    Record,
    RunStarted,
    Timing,
    VariantAdded,
)
from moevolve.report import beside, html, optimisation, svg, terminal, trees
from moevolve.report.search import EarnedFigures
from moevolve.report.summary import Cost, StageFigures, summary_of

HOSTILE = '<script src="https://evil.example/x.js"></script>\x1b[2J[bold]\n& "quoted"'


def page(found: list[Entry]) -> str:
    return html.page(summarised(found), read_entries(found))


def report(found: list[Entry]) -> str:
    return printed(terminal.report(summarised(found), read_entries(found).view))


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

    VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}

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
    text = page(found)
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
    text = page(found)
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
    assert "Cycle 2 starts from" in text


def test_a_score_that_is_no_number_spoils_no_page() -> None:
    def without_number(record: Record) -> Record:
        if isinstance(record, Evaluated) and record.split == "dev":
            nan = Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
            return msgspec.structs.replace(record, score=nan)
        return record

    found = entries([without_number(record) for record in records()])
    assert "–" in page(found) and "–" in report(found)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("made", [synthetic.recorded, optimised.recorded])
def test_numbers_that_no_run_writes_reach_no_figure_and_break_no_report(
    made: Callable[[], MemoryRun], number: float
) -> None:
    run = made()
    run.written = [
        msgspec.structs.replace(entry, record=with_number(entry.record, number), timing=Timing(at=number))
        for entry in run.written
    ]
    summary, reader = summary_of(run), read(run)
    assert summary is not None
    rated = optimisation.figures(reader, summary)
    text = html.page(summary, reader)
    shown = printed(terminal.show(summary) if rated is None else optimisation.show(rated))
    msgspec.json.encode(rated or summary)
    # The settings, and events as they are on file, are shown as they are.
    figures = text[: text.index("Cost and record")]
    assert not re.search(r"[>\s\"(+-](nan|inf)\b", figures + shown)
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(chart)


def test_the_page_is_the_same_bytes_every_time() -> None:
    found = entries(records())
    assert page(found) == page(found)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_a_run_that_has_just_begun_has_a_page_and_a_screen(length: int) -> None:
    found = entries(records())[:length]
    run = summarised(found).run
    assert run in page(found)
    assert run in report(found)


def test_charts_are_elements_with_intervals_and_without_scripts() -> None:
    found = entries(records(cycles=3))
    summary = summarised(found)
    loss = svg.training(read_entries(found).view.losses)
    for text in (svg.scores(summary.curve), svg.skills(summary.skills), loss or ""):
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert 'class="ci ' in svg.scores(summary.curve) and 'class="band"' in svg.scores(summary.curve)


def test_the_terminal_says_what_was_promoted_and_why() -> None:
    text = printed(terminal.show(summarised(entries(records(cycles=2, gain=0.1)))))
    assert re.search(r"0\.400 \[0\.370, 0\.430\].*0\.600 \[0\.570, 0\.630\].*\+0\.200 \[\+0\.1", text)
    assert "Promoted: weights 2 of 2 proposed, program 1 of 2" in text
    assert re.search(
        r"program\s+v0002\s+vote: ask 5 times and vote\s+\+0\.060\s+181 : 1\s+60-31 of 480", text
    )
    assert re.search(r"number/add +0\.400 +0\.600 +\+0\.200 +4 \(3-4\) +6 \(5-6\)", text)
    assert re.search(r"provenance\s+1,000\s+1", text)


def test_the_terminal_obeys_nothing_that_a_program_wrote() -> None:
    text = report(hostile())
    assert "\x1b" not in text
    assert "[bold]" in text


def test_tables_of_runs_show_runs_that_cannot_be_read() -> None:
    summary = summarised(entries(records()))
    text = printed(beside.listing({"runs/a": summary, "runs/b": "written by a newer version"}))
    assert re.search(r"runs/a\s+finished\s+full\s+11", text)
    assert re.search(r"runs/b\s+written by a newer version", text)


def test_the_comparison_has_an_interval_with_every_score() -> None:
    found = {arm: summarised(entries(records(arm=arm))) for arm in ("full", "weights", "program")}  # type: ignore[arg-type]
    for width in (80, 130):
        file = io.StringIO()
        Console(file=file, width=width, markup=False).print(beside.comparison(found, width=width))
        assert len(re.findall(r"\[[+-]?0\.\d{3}, [+-]?0\.\d{3}\]", file.getvalue())) == 9


def test_the_skill_tree_is_drawn_by_branch() -> None:
    text = printed(trees.standing(summarised(entries(records())), {}))
    assert re.search(r"^compose\s*$\n^  sort_reverse\s+4 \(3-4\)\s+6 \(5-6\)", text, re.MULTILINE)


@given(st.lists(st.floats(-1, 2), max_size=30))
def test_a_sparkline_has_one_block_a_value(values: list[float]) -> None:
    assert len(sparkline(values)) == len(values)


def test_the_page_shows_what_was_promoted_with_its_diff_and_the_settings() -> None:
    run = synthetic.recorded(None, "finished", alive=False)
    reader = read(run)
    summary = summary_of(run)
    assert summary is not None
    text = html.page(summary, reader)
    assert "What was promoted" in text and "over 420 pairs" in text
    assert '<span class="add">' in text and "ROUTES" in text
    assert "Expert load, cycle 8 step 60" in text and "&#34;seed&#34;: 11" in text


def test_a_skill_has_its_gain_with_an_interval_coloured_only_beyond_it() -> None:
    text = page(entries(records(cycles=2, gain=0.1)))
    row = re.search(r"<tr><th scope=\"row\">text/<wbr>reverse</th>.*?</tr>", text, re.DOTALL)
    assert row is not None and re.search(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]", row[0])


def test_an_evaluators_run_has_its_own_figures_and_none_of_sealed_tasks() -> None:
    run = optimised.recorded()
    reader = read(run)
    summary = summary_of(run)
    assert summary is not None
    text = html.page(summary, reader)
    structure = Structure()
    structure.feed(text)
    assert structure.open == [] and structure.scripts == 0
    for words in (
        "initial program",
        "0.73",
        "mean of fresh evaluations",
        "3 failed",
        "1 timeout",
        "Evaluation 20",
    ):
        assert words in text
    assert "Champion's score by evaluation".replace("'", "&#x27;") in text
    for words in ("sealed tasks", "Decisions of the gate", "Skills, ", "tokens generated", "parameters"):
        assert words not in text


def test_marks_of_an_axis_are_told_apart() -> None:
    run = optimised.recorded()
    summary = summary_of(run)
    assert summary is not None
    found = optimisation.figures(read(run), summary)
    assert found is not None
    close = [msgspec.structs.replace(each, score=0.98 + 1e-6 * each.evaluation) for each in found.champions]
    drawn = svg.champions(msgspec.structs.replace(found, champions=close))
    marks = re.findall(r'text-anchor="end"[^>]*>([\d.]+)<', drawn)
    assert len(marks) == len(set(marks)) == 6


def test_the_page_has_what_show_prints_of_nulls_costs_and_what_waits() -> None:
    found = synthetic.entries()
    half = Interval(mean=0.5, low=0.4, high=0.6, n=96)
    nulls = Nulls(
        cycle=8,
        variant="v0007",
        samples=5,
        champion=half,
        greedy=half,
        self_consistency=half,
        best_of=half,
        tokens=10,
    )
    cost = Cost(
        requests=12,
        reused=0,
        calls=13,
        prompt_tokens=900,
        cached_tokens=0,
        completion_tokens=90,
        unmetered=2,
        faults={},
        failures={},
        money="1.25",
        currency="EUR",
        stages=[StageFigures(stage="gate program", requests=12, tokens=990, cost="1.25", failed=1)],
    )
    earned = EarnedFigures(name="split", made=4, screened=4, passed=2, promoted=1, gain=0.2, attempts=96)
    summary = msgspec.structs.replace(
        summarised(found), nulls=nulls, waiting=["v0009"], cost=cost, operators=[earned], proposers=[earned]
    )
    shown = html.page(summary, read_entries(found))
    for words in (
        describe(nulls)[0],
        "Waits for approval: v0009",
        "2 calls came without usage figures",
        "server, gate program",
        "12 requests, 990 tokens, 1.25 EUR, 1 failed",
        "What earned its cost",
    ):
        assert str(escape(words)) in shown, words
