"""Operators on any agent: edits that stay where they belong, read as programs, and touch nothing that is frozen."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moevolve.agents.box.stages import STAGES, stages_of
from moevolve.agents.brief import Brief, Failure, Success, TrialReport
from moevolve.agents.genome import Genome, seed_genome, unusable
from moevolve.agents.host import ProgramHost
from moevolve.auditor import sources
from moevolve.loop.optimise.proposers import literals, operators, statements
from moevolve.proposers.checks import compiles
from moevolve.proposers.operators import errors, parameters, staging, structure, wording
from moevolve.proposers.operators.operator import Inapplicable, Operator, parsed
from moevolve.proposers.operators.proposer import OPERATORS, Operators, weighed
from moevolve.proposers.proposer import ProposalContext
from moevolve.proposers.search import meaning
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, PublicTask

SOLVE = '''"""Answers a task: this line is no prompt, however long it may be."""

SYSTEM = "You are a careful clerk. Answer in one word."  # who it is
TRIES = 3


async def solve(task, agent):
    """Asks é once; neither is this one a prompt at all."""
    messages = [{"role": "system", "content": SYSTEM}, *task.messages]
    answer = await agent.generate(messages, temperature=0.3, max_tokens=16)  # a comment that stays
    return answer.text
'''
FILES = {"solve.py": SOLVE, "prompts/a.md": "Be kind. Be brief. Never guess.\n"}
KNOWN = [Success(prompt=f"{n} + 1?", skill="a/b", level=1, answer=str(n + 1)) for n in range(6)]


def brief(
    files: Mapping[str, str] = FILES, count: int = 8, history: list[TrialReport] | None = None
) -> Brief:
    return Brief(
        source=dict(files),
        skills=[],
        failures=[],
        history=history or [],
        lineage=[],
        candidates=count,
        cycle=1,
        metric="",
        successes=KNOWN,
    )


def context(files: Mapping[str, str] = FILES, key: int = 1) -> ProposalContext:
    return ProposalContext(Genome(files=seed_genome().files | dict(files)), key, lambda requests: [])


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"recall"}))
@given(seed=st.integers(0, 2**32))
def test_an_edit_changes_one_file_that_still_reads(name: str, seed: int) -> None:
    change = OPERATORS[name][0](FILES, KNOWN, Random(seed))
    assert change.text != FILES[change.path] or name in ("reorder", "instruct")
    assert change.path in change.summary
    if change.path.endswith(".py"):
        ast.parse(change.text)
        assert "# a comment that stays" in change.text and "Asks é once" in change.text


def test_a_string_of_the_source_is_changed_where_it_stands() -> None:
    files = {"solve.py": SOLVE}
    change = wording.instruct(files, KNOWN, Random(0))
    head, tail = SOLVE.split('SYSTEM = "You are a careful clerk. Answer in one word."')
    assert change.text.startswith(head) and change.text.endswith(tail)


def test_examples_take_the_place_of_earlier_ones() -> None:
    files = {"a.md": "Be kind.\n"}
    once = wording.examples(files, KNOWN, Random(1)).text
    twice = wording.examples({"a.md": once}, KNOWN, Random(2)).text
    assert once.count("Examples:") == twice.count("Examples:") == 1
    assert twice.startswith("Be kind.\n\nExamples:\n\nQuestion: ")


def test_settings_move_to_other_values() -> None:
    for seed in range(20):
        change = parameters.setting(FILES, KNOWN, Random(seed))
        assert ("temperature=0.3" in change.text) != ("max_tokens=16" in change.text)
    assert "TRIES = 3" not in parameters.constant(FILES, KNOWN, Random(0)).text


@pytest.mark.parametrize("layer", [structure.vote, structure.retry, structure.revise])
def test_layers_stand_on_each_other_and_run(layer: Operator) -> None:
    text = SOLVE
    for operator in (layer, structure.vote, layer):
        text = operator({"solve.py": text}, KNOWN, Random(1)).text
    genome = Genome(files=seed_genome().files | {"solve.py": text})
    [outcome] = ProgramHost().solve(
        genome,
        [PublicTask(prompt="Which?", skill="a/b")],
        lambda requests: [[Completion("blue", [1], [0.0], "stop")] for _ in requests],
        None,
        [7],
    )
    assert outcome.answer == "blue", outcome.detail


def test_a_layer_has_an_end() -> None:
    text = SOLVE
    for _ in range(structure.MOST):
        text = structure.vote({"solve.py": text}, KNOWN, Random(1)).text
    with pytest.raises(Inapplicable, match="many layers"):
        structure.vote({"solve.py": text}, KNOWN, Random(1))


def test_nothing_frozen_is_edited() -> None:
    files = FILES | {"agent.toml": 'edit = ["prompts/*.md"]'}
    found = Operators().propose(brief(files), context(files)).candidates
    assert found and {edit.path for edits in found for edit in edits} == {"prompts/a.md"}


def test_the_same_key_draws_the_same_and_nothing_twice() -> None:
    first, again, other = (Operators().propose(brief(), context(key=key)).candidates for key in (1, 1, 2))
    assert first == again != other and len(first) == 8
    assert len({edit.summary for edits in first for edit in edits}) == 8
    history = [
        TrialReport(cycle=1, operator=edit.operator, summary=edit.summary, gain=0.0, decision="screened")
        for edits in first
        for edit in edits
    ]
    later = Operators().propose(brief(history=history), context(key=1)).candidates
    assert not {e.summary for edits in later for e in edits} & {e.summary for edits in first for e in edits}


def test_what_gained_is_drawn_more_often() -> None:
    gained = [
        TrialReport(cycle=1, operator="vote", summary="x", gain=0.1, decision="promote"),
        TrialReport(cycle=1, operator="drop", summary="y", gain=-0.1, decision="screened"),
    ]
    before, after = weighed(brief()), weighed(brief(history=gained))
    assert after["vote"] > before["vote"] and after["drop"] < before["drop"]


def test_a_program_with_nothing_to_edit_has_no_candidates() -> None:
    files = {"solve.py": "def solve(task):\n    return None\n"}
    assert Operators().propose(brief(files), context(files)).candidates == []


@pytest.mark.parametrize("operator", [structure.vote, structure.retry, structure.recall])
def test_a_program_of_plans_gets_another_plan_for_tasks_without_a_route(operator: Operator) -> None:
    files = {"solve.py": seed_genome().files["solve.py"]}
    for draw in range(3):
        files["solve.py"] = operator(files, KNOWN, Random(draw)).text
    behaviour = ProgramHost().behaviour(Genome(files=seed_genome().files | files), {"my/skill": ""}, 1)
    assert not behaviour.refused and list(behaviour.plans) == ["my/skill"]


def names(text: str) -> set[str]:
    """What a file names and defines at its top."""
    tree = ast.parse(text)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return functions | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("odd", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"recall"}))
def test_edits_stand_where_they_belong_whatever_ends_a_line_elsewhere(name: str, odd: str, end: str) -> None:
    plain = f'# one{odd}# two\nMARK = """a{odd}b"""\nLIMIT = 30\n{SOLVE}'.replace("\n", end)
    for seed in range(8):
        try:
            change = OPERATORS[name][0]({**FILES, "solve.py": plain}, KNOWN, Random(seed))
        except Inapplicable:
            continue
        if change.path == "solve.py":
            assert names(plain) <= names(change.text), change.text
            assert "await solve_1" not in change.text or "async def solve_1(task, agent)" in change.text


def test_a_layer_needs_a_solve_that_it_can_rename() -> None:
    files = {"solve.py": "async def solve \\\n        (task, agent):\n    return ''\n"}
    with pytest.raises(Inapplicable):
        structure.vote(files, KNOWN, Random(1))


@pytest.mark.parametrize("text", ["-" * 5000 + "1\n", "not " * 20000 + "1\n", "(" * 300 + "1" + ")" * 300])
def test_a_text_that_nests_deeper_than_python_reads_has_no_tree(text: str) -> None:
    assert parsed(text) is None
    assert all(not each.string for each in literals(text))
    assert operators(text) == statements(text) == ()
    assert compiles({"a.py": text}) is not None
    assert meaning(Genome(files={"a.py": text}))
    reading = sources.read({"solve.py": text})
    assert reading is not None and reading.verdict == "unread" and reading.places[0]


BROKEN = [
    Failure(
        prompt="1 + 1?",
        skill="a/b",
        level=1,
        answer="",
        failure="error",
        detail="Traceback\n  in solve\nValueError: no number in 'about two'",
    ),
    Failure(prompt="2 + 1?", skill="a/b", level=1, answer="4", failure="off by one", detail="one too many"),
    Failure(prompt="3 + 1?", skill="a/b", level=1, answer="5", failure="wrong"),
]
PARSES = """async def solve(task, agent):
    answer = await agent.generate([*task.messages], temperature=0)
    return str(int(answer.text))
"""


def test_another_try_is_told_the_error_of_the_one_before() -> None:
    text = errors.retry_told({"solve.py": PARSES}, BROKEN, Random(1), False).text
    text = errors.retry_told({"solve.py": text}, BROKEN, Random(2), False).text
    assert text.count("class Telling") == text.count("import ToolError") == 1
    asked: list[str] = []

    def answer(requests: list[GenerateRequest]) -> list[list[Completion]]:
        asked.extend("\n".join(m.content for m in each.prompt) for each in requests)  # type: ignore[union-attr]
        said = (
            "2"
            if "ValueError: invalid literal for int() with base 10: 'about two'" in asked[-1]
            else "about two"
        )
        return [[Completion(said, [1], [0.0], "stop")]]

    genome = Genome(files=seed_genome().files | {"solve.py": text})
    [outcome] = ProgramHost().solve(genome, [PublicTask(prompt="1 + 1?", skill="a/b")], answer, None, [7])
    assert (outcome.answer, len(asked)) == ("2", 2), outcome.detail


def test_a_try_that_is_told_of_errors_has_an_end_and_raises_the_last() -> None:
    text = errors.retry_told({"solve.py": PARSES}, BROKEN, Random(1), False).text
    genome = Genome(files=seed_genome().files | {"solve.py": text})
    [outcome] = ProgramHost().solve(
        genome,
        [PublicTask(prompt="1 + 1?", skill="a/b")],
        lambda requests: [[Completion("about two", [1], [0.0], "stop")] for _ in requests],
        None,
        [7],
    )
    assert outcome.failure == "error" and "about two" in outcome.detail and outcome.requests in (2, 3)


def test_a_prompt_names_what_was_said_of_failed_attempts_in_place_of_what_it_named() -> None:
    files = {"a.md": "Be kind.\n\nExamples:\n\nQuestion: x\nAnswer: y\n"}
    seen = set()
    for seed in range(12):
        files["a.md"] = wording.instruct(files, KNOWN, Random(seed)).text if seed == 3 else files["a.md"]
        files["a.md"] = errors.mistakes(files, BROKEN, Random(seed), True).text
        text = files["a.md"]
        assert text.count(errors.MISTAKES) == text.count("Be kind.") == text.count("Examples:") == 1
        assert text.index("Be kind.") < text.index(errors.MISTAKES) < text.index("Examples:")
        seen |= {line for line in text.splitlines() if line.startswith("- ")}
    assert seen == {"- ValueError: no number in 'about two'", "- one too many"}
    assert any(line in files["a.md"] for line in wording.INSTRUCTIONS)


def test_an_agent_in_boxes_gets_further_runs_by_a_file_beside_it() -> None:
    change = errors.retry_told({}, BROKEN, Random(1), True)
    assert change.path == STAGES and 1 <= stages_of({STAGES: change.text}).retries <= 4
    files = FILES | {"agent.toml": 'kind = "command"\nargv = ["x"]\n', STAGES: change.text}
    found = [
        edit
        for key in range(20)
        for edits in Operators()
        .propose(
            replace(brief(files), failures=BROKEN), ProposalContext(Genome(files=files), key, lambda _: [])
        )
        .candidates
        for edit in edits
        if edit.path == STAGES
    ]
    assert found and all(stages_of({STAGES: edit.text}) != stages_of(files) for edit in found)
    frozen = files | {"agent.toml": 'kind = "command"\nargv = ["x"]\nedit = ["*.md"]\n'}
    assert not any(
        edit.path == STAGES
        for key in range(20)
        for edits in Operators()
        .propose(
            replace(brief(frozen), failures=BROKEN), ProposalContext(Genome(files=frozen), key, lambda _: [])
        )
        .candidates
        for edit in edits
    )


def test_stages_are_edited_one_by_one() -> None:
    files: dict[str, str] = {}
    for seed in range(20):
        edit = (staging.votes, staging.retries)[seed % 2]
        before = stages_of(files)
        files[STAGES] = edit(files, Random(seed)).text
        after = stages_of(files)
        assert (before.votes != after.votes, before.retries != after.retries) == (
            seed % 2 == 0,
            seed % 2 == 1,
        )
    with pytest.raises(Inapplicable):
        staging.votes({STAGES: "votes = 99"}, Random(1))


def test_an_agent_in_boxes_votes_by_a_file_beside_it() -> None:
    toml = 'kind = "command"\nargv = ["python", "solve.py"]\n'
    files = FILES | {"agent.toml": toml}
    for key in range(40):
        context = ProposalContext(Genome(files=files), key, lambda _: [])
        for edits in Operators().propose(brief(files), context).candidates:
            assert all(edit.path == STAGES for edit in edits if edit.operator == "vote")
            files |= {edit.path: edit.text for edit in edits if edit.operator == "vote"}
    assert STAGES in files


@pytest.mark.parametrize("operator", [errors.retry_told, errors.mistakes])
def test_where_nothing_was_said_of_failures_there_is_no_edit(operator: errors.FailureOperator) -> None:
    for boxed in (True, False):
        with pytest.raises(Inapplicable):
            operator(FILES, BROKEN[2:], Random(1), boxed)


@pytest.mark.parametrize("text", ["retries = 9", "retries = -1", "tries = 1", "retries ="])
def test_stages_that_cannot_be_are_no_program(text: str) -> None:
    assert STAGES in (unusable({"agent.toml": 'kind = "command"\nargv = ["x"]\n', STAGES: text}) or "")
