"""The shipped agent that writes formulas: what it shows, what it asks memory, and the preset that runs it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from moevolve.agents.genome import load
from moevolve.agents.host import ProgramHost
from moevolve.config import Config
from moevolve.errors import ConfigError
from moevolve.loop import resolve
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, PublicTask, RecallRequest
from moevolve.records import Lesson
from moevolve.tasks.office.excel_cell import EXCEL_CELL, LEVELS
from moevolve.tasks.task import Task

FOLDER = resolve.TEMPLATES / "cell-agent"


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cell_agent", FOLDER / "solve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tasks() -> list[Task]:
    return [EXCEL_CELL.task(level, seed) for level in range(1, len(LEVELS) + 1) for seed in range(40)]


def test_the_model_sees_every_name_that_the_formula_needs(agent: ModuleType) -> None:
    for task in tasks():
        told = agent.told(task.prompt)
        assert told.startswith("Ask: ") and told.endswith("\nFormula:")
        needed = [name for name in agent.names_of(task.prompt) if name in (task.answer or "")]
        named = told.partition("Names: ")[2].partition("\n")[0].split(", ")
        assert set(needed) <= set(named), (task.prompt, told)


def test_cells_of_one_formula_have_one_form(agent: ModuleType) -> None:
    forms: dict[str, set[str]] = {}
    for task in tasks():
        shape = (task.answer or "").partition("(")[0]
        forms.setdefault(shape, set()).add(str(agent.form(task.prompt)))
    assert all(len(found) <= 2 for found in forms.values()), forms
    assert len(set.union(*forms.values())) >= 5


def test_memory_is_asked_by_the_words_and_not_by_the_names(agent: ModuleType) -> None:
    prompt = (
        "Named ranges: order, region, product, units, prices; A to E, rows 2 to 9\n"
        "Ask: I need the sum of the units where the region is North, please.\nFormula:"
    )
    assert agent.wording(prompt) == "I need the sum of the where the is please"
    assert agent.told(prompt).splitlines()[1] == 'Names: units, region, "North"'


def lesson(number: int, prompt: str) -> Lesson:
    return Lesson(
        id=f"l{number}",
        skill="office/excel_cell",
        level=1,
        text=prompt,
        prompt=prompt,
        answer=f"=SUM({'abc'[number % 3]})",
        success=number != 0,
        run="r",
        cycle=1,
        variant="v",
    )


@pytest.mark.parametrize(("known", "own"), [(0, True), (2, True), (9, False)])
def test_its_own_cells_stand_in_where_memory_has_too_few(known: int, own: bool) -> None:
    same = [task for task in tasks() if (task.answer or "").startswith("=SUM(")]
    asked: list[GenerateRequest] = []

    def answer(requests: list[GenerateRequest]) -> list[list[Completion]]:
        asked.extend(requests)
        return [[Completion(" =SUM(units)", [1], [-0.5, -0.5], "stop")] for _ in requests]

    def recall(request: RecallRequest) -> list[Lesson]:
        assert request.k == 12 and request.vector == 0.0
        return [lesson(number, task.prompt) for number, task in enumerate(same[1 : known + 1])]

    public = PublicTask(prompt=same[0].prompt, skill="office/excel_cell")
    [outcome] = ProgramHost().solve(load(FOLDER), [public], answer, recall, [1])
    assert (outcome.answer, outcome.failure) == ("=SUM(units)", None), outcome
    [request] = asked
    assert ("Formula: =MAX(lines)" in str(request.prompt)) is own
    assert (request.sampling.temperature == 0) is not own
    assert str(request.prompt).count("Formula: =SUM(") == min(3, max(0, known - 1)), (
        "what failed is not shown"
    )


def test_it_has_a_cell_of_its_own_for_each_form(agent: ModuleType) -> None:
    own = agent.examples((FOLDER / "prompts" / "cells.md").read_text())
    for task in tasks():
        assert agent.like(task.prompt, own), task.prompt
    assert all(prompt.endswith("\nFormula:") and answer.startswith("=") for prompt, answer in own)


def test_the_preset_runs_the_agent_that_it_names() -> None:
    config = resolve.with_files(Config.load("real-excel"))
    assert config.agent.digest == load(FOLDER).hash
    assert resolve.suite(config).name == "office"
    assert (
        sum(1 for _ in resolve.suite(config).opened().spread("sealed", config.suite.sealed_per_cell)) == 100
    )


def test_an_agent_that_does_not_ship_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="agent.name"):
        Config.load("real-excel", {"agent.name": "nobody"})


def test_what_a_person_told_memory_is_no_solved_cell() -> None:
    [task] = [task for task in tasks() if (task.answer or "").startswith("=SUM(")][:1]
    asked: list[str] = []

    def answer(requests: list[GenerateRequest]) -> list[list[Completion]]:
        asked.extend(str(request.prompt) for request in requests)
        return [[Completion(" =SUM(units)", [1], [-0.5, -0.5], "stop")] for _ in requests]

    said = msgspec.structs.replace(lesson(1, ""), text="sums need a range", answer="")
    public = PublicTask(prompt=task.prompt, skill="office/excel_cell")
    for recall in (lambda request: [said], None):
        [outcome] = ProgramHost().solve(load(FOLDER), [public], answer, recall, [1])
        assert outcome.answer == "=SUM(units)"
    assert asked[0] == asked[1]
