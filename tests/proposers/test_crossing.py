"""Crossover puts together what two programs of one archive differ in."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.agents.brief import Brief
from moevolve.agents.genome import Genome
from moevolve.proposers.operators.crossing import crossover
from moevolve.proposers.operators.operator import Inapplicable
from moevolve.proposers.operators.proposer import OPERATORS, Operators
from moevolve.proposers.proposer import ProposalContext

LINES = st.lists(st.sampled_from(["a = 1", "b = 2", "c = 3", "if True:", "    d = 4"]), max_size=8)
FILES = st.dictionaries(
    st.sampled_from(["solve.py", "helper.py", "p.md"]), LINES.map(lambda lines: "\n".join(lines) + "\n")
)


@given(FILES, FILES, st.integers(0, 1000))
def test_a_crossover_has_lines_of_both_is_python_and_is_neither(
    mine: dict[str, str], other: dict[str, str], seed: int
) -> None:
    try:
        changes = crossover(mine, other, Random(seed))
    except Inapplicable:
        return
    assert changes == crossover(mine, other, Random(seed))
    child = {**mine, **{change.path: change.text for change in changes}}
    assert child != mine
    assert {path: child.get(path) for path in other} != other or len(changes) < sum(
        mine.get(path) != text for path, text in other.items()
    )
    for change in changes:
        lines = {*mine.get(change.path, "").splitlines(), *other[change.path].splitlines()}
        assert set(change.text.splitlines()) <= lines
        if change.path.endswith(".py") and change.text != other[change.path]:
            compile(change.text, change.path, "exec")


def test_edits_of_two_lines_are_put_together() -> None:
    base = "first = 0\n\nmiddle = 0\n\nlast = 0\n"
    mine, other = base.replace("first = 0", "first = 1"), base.replace("last = 0", "last = 1")
    together = base.replace("first = 0", "first = 1").replace("last = 0", "last = 1")
    found = set()
    for seed in range(30):
        try:
            [change] = crossover({"solve.py": mine}, {"solve.py": other}, Random(seed))
        except Inapplicable:
            continue
        found.add(change.text)
    assert together in found and other not in found


def test_nothing_frozen_is_taken_and_without_another_program_nothing_is() -> None:
    toml = 'edit = ["prompts/*.md"]\n'
    files = {"agent.toml": toml, "solve.py": "a = 1\n", "prompts/a.md": "Say it.\nBriefly.\n"}
    other = {**files, "solve.py": "a = 2\n", "prompts/a.md": "Say it.\nAt length.\n", "prompts/b.md": "New."}
    brief = Brief(
        source=files,
        skills=[],
        failures=[],
        successes=[],
        history=[],
        lineage=[],
        candidates=40,
        cycle=1,
        metric="",
    )

    def proposed(beside: dict[str, str] | None) -> list[list[tuple[str, str]]]:
        context = ProposalContext(
            Genome(files=files), 7, lambda _: [], None, None if beside is None else Genome(files=beside)
        )
        found = Operators().propose(brief, context).candidates
        return [[(edit.operator, edit.path) for edit in edits] for edits in found]

    crossed = [edits for edits in proposed(other) if edits[0][0] == "crossover"]
    assert crossed and {path for edits in crossed for _, path in edits} <= {"prompts/a.md", "prompts/b.md"}
    assert not [edits for edits in proposed(None) if edits[0][0] == "crossover"]
    assert "crossover" not in OPERATORS


def test_the_same_program_has_nothing_to_give() -> None:
    with pytest.raises(Inapplicable):
        crossover({"solve.py": "a = 1\n"}, {"solve.py": "a = 1\n"}, Random(0))
