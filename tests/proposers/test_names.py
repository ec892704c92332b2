"""Names that a program's proposals may not take."""

from __future__ import annotations

import pytest

from moevolve.agents.genome import Genome
from moevolve.proposers.names import is_free
from moevolve.proposers.search import children
from moevolve.records import Edit

SKILLS = ("text/reverse", "number/add")


@pytest.mark.parametrize(
    "name",
    [
        *("seed", "distill", "distill with a new recipe", "reinforce", "rolled back", "feedback"),
        *(
            "DISTILL",
            " distill",
            "distill ",
            "\uff44\uff49still",
            "dis\u200btill",
            "di\u00adstill",
            "dist\x08till",
        ),
        *("vote+distill", "distill+vote", "vote + Seed", "+", "vote+", ""),
        *("gate", "sealed", "screen", "improve", "solver", "judge", "champion", "program", "weights"),
        *("text/reverse", "text", "Number/Add", "vote+number"),
        *("\x1b[31mvote", "vote\nseed", "\u202evote", "x" * 65, "   "),
    ],
)
def test_names_of_the_runs_own_are_taken(name: str) -> None:
    assert not is_free(name, SKILLS)


@pytest.mark.parametrize(
    "name", ["vote", "split", "proven", "retune", "chain+vote", "few-shot prompt", "日本"]
)
def test_other_names_are_free(name: str) -> None:
    assert is_free(name, SKILLS)


def test_a_candidate_with_a_taken_name_is_dropped_alone() -> None:
    program = Genome(files={"solve.py": "a = 1\n"})
    candidates = [
        [Edit(path="solve.py", text=f"a = {number}\n", operator=operator, summary="")]
        for number, operator in enumerate(("vote", "distill", "text/reverse", "split"), 2)
    ]
    found = children(program, candidates, set(), lambda genome: genome.hash, SKILLS)
    assert [proposal.operator for proposal in found] == ["vote", "split"]
