"""Generalisation as readers show it: a line a column, what is missing with its reason, means over seeds."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from impossible_numbers import NUMBERS, with_number
from memory_run import read_entries, summarised
from rich.console import RenderableType
from synthetic_journal import entries, records

from moevolve.journal.intervals import paired_gain, wilson
from moevolve.records import Column, Entry, Generalised, Record, RunExtended
from moevolve.report import beside, html, terminal
from moevolve.report.arms import arms
from moevolve.report.summary import Summary

SEED: list[float | None] = [0.0, 0.0, 1.0, None]
CHAMPION: list[float | None] = [1.0, 0.0, 1.0, 1.0]


def column(name: Column, **fields: Any) -> Generalised:
    record = Generalised(
        cycle=2,
        column=name,
        variant="v0002",
        cells=[("text/sort", 7, 2), ("text/sort", 8, 1), ("number/parity", 7, 1)],
        outcomes={"seed": SEED, "champion": CHAMPION},
        seed=wilson(1.0, 3),
        champion=wilson(3.0, 4),
        missing=1,
        tokens=11,
    )
    return msgspec.structs.replace(record, **fields)


ABSENT: dict[str, Any] = {
    "cells": [],
    "outcomes": {},
    "seed": None,
    "champion": None,
    "missing": 0,
    "tokens": 0,
    "reason": "no skill was left out",
}


def measured(found: list[Record] | None = None) -> list[Entry]:
    if found is None:
        found = [column("G0"), column("G2"), column("G3"), column("G4", **ABSENT)]
    before = list(records(cycles=2, finished=True))
    return entries([*before[:-1], *found, before[-1]])


def printed(what: RenderableType) -> str:
    file = io.StringIO()
    terminal.console(file).print(what)
    return file.getvalue()


def test_a_column_holds_scores_paired_gain_and_skills() -> None:
    summary = summarised(measured())
    found = summary.generalisation["G3"]
    gain = paired_gain(SEED, CHAMPION)
    assert gain is not None
    assert (found.initial, found.final, found.n, found.missing) == (0.3333, 0.75, 4, 1)
    assert (found.gain, found.gain_ci) == (round(gain[0], 4), tuple(round(end, 4) for end in gain[1]))
    by_skill = {path: (skill.initial, skill.final, skill.n) for path, skill in found.skills.items()}
    assert by_skill == {"text/sort": (0.3333, 0.6667, 3), "number/parity": (None, 1.0, 1)}
    sealed = summary.generalisation["G1"]
    assert (sealed.final, sealed.gain) == (summary.score.final, summary.score.gain)
    plain = summarised(entries(records(cycles=2, finished=True)))
    assert summary.tokens.generated == plain.tokens.generated + 33
    assert "generalisation" not in msgspec.to_builtins(plain)


def test_terminal_and_page_show_each_column_and_why_one_is_missing() -> None:
    found = measured()
    summary, reader = summarised(found), read_entries(found)
    for shown in (printed(terminal.show(summary)), printed(terminal.report(summary, reader.view))):
        line = next(each for each in shown.splitlines() if each.startswith("G3 other skill"))
        assert "0.333" in line and "0.750" in line and "+0.333" in line
        assert any(
            each.startswith("G4 other branch") and "no skill was left out" in each
            for each in shown.splitlines()
        )
    page = html.page(summary, reader)
    assert "G2 new levels" in page and "no skill was left out" in page


def test_a_run_that_goes_on_has_no_columns_until_its_new_end() -> None:
    extended = RunExtended(cycle=2, more_cycles=1, more_minutes=None, cycles=3)
    ended = [entry.record for entry in measured()]
    assert not summarised(entries([*ended, extended])).generalisation
    again = summarised(entries([*ended, extended, column("G2"), ended[-1]]))
    assert set(again.generalisation) == {"G1", "G2"}


def test_a_column_with_too_few_answers_has_no_gain() -> None:
    found = summarised(measured([column("G2", seed=None)])).generalisation["G2"]
    assert (found.initial, found.final, found.gain) == (None, 0.75, None)
    assert found.reason == "too many tasks had no answer"


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_no_run_writes_are_shown_all_the_same(number: float) -> None:
    found = measured([with_number(column("G2"), number)])
    summary = summarised(found)
    printed(terminal.show(summary))
    html.page(summary, read_entries(found))


def test_arms_have_each_columns_mean_gain_over_the_seeds_that_measured_it() -> None:
    first = summarised(measured())
    second = summarised(measured([column("G2", outcomes={"seed": SEED, "champion": SEED})]))
    group: list[Summary] = [
        msgspec.structs.replace(each, run=f"small-{seed}-ab", seed=seed)
        for seed, each in enumerate((first, second))
    ]
    [arm] = arms(group)
    assert list(arm.generalisation) == ["G0", "G1", "G2", "G3"]
    assert arm.generalisation["G2"].mean == pytest.approx(0.3333 / 2, abs=1e-4)
    assert arm.generalisation["G3"].ci is None, "one of the runs has it"
    table = beside.generalised([arm])
    assert table is not None and "+0.333" in printed(table)
    assert beside.generalised(arms([msgspec.structs.replace(first, generalisation={})])) is None
