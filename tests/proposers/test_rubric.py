"""A rubric that grows: criteria from failed attempts, kept in a file of the program, shown in every later prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moevolve.agents.brief import Brief, Failure
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.manifest import MANIFEST
from moevolve.config.roles import ProposerSection
from moevolve.proposers import model
from moevolve.proposers.answers import Unusable
from moevolve.proposers.model import LanguageModel
from moevolve.proposers.prompting import CRITERIA, Told, messages
from moevolve.proposers.proposer import ProposalContext
from moevolve.proposers.rubric import ADDED, LONGEST, MOST, criteria, grown
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, Reply

FAILED = Failure(prompt="rev:abcdef=", skill="primer/rev", level=6, answer="fedcb", failure="wrong")
BRIEF = Brief(
    source={}, skills=[], failures=[FAILED], history=[], lineage=[], candidates=1, cycle=1, metric="mean"
)


def test_an_answer_adds_what_the_rubric_lacks() -> None:
    first = grown("", "Summary: two rules\n- Cut long payloads.\n* Vote where answers differ.\nand so on")
    assert first == "- Cut long payloads.\n- Vote where answers differ.\n"
    again = grown(first, "- cut LONG payloads!\n- Check the length.")
    assert criteria(again) == ["Cut long payloads.", "Vote where answers differ.", "Check the length."]


@pytest.mark.parametrize("answer", ["It is perfect.", "- \n-\n", "- Cut long payloads"])
def test_an_answer_that_adds_nothing_is_no_edit(answer: str) -> None:
    with pytest.raises(Unusable, match="no criterion"):
        grown("- Cut long payloads.\n", answer)


def test_a_rubric_stays_small_whatever_is_said() -> None:
    rubric = ""
    for turn in range(20):
        rubric = grown(rubric, "".join(f"- rule {turn} {n} {'x' * 1000}\n" for n in range(50)))
        assert rubric.count("\n") <= MOST
    assert len(criteria(rubric)) == MOST and len(rubric) <= MOST * (LONGEST + 3)
    assert "rule 19 0" in rubric and f"rule 19 {ADDED} " not in rubric and "rule 0 0 " not in rubric


class Scripted:
    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[GenerateRequest] = []

    def __call__(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        self.asked += requests
        return [[Completion(text=self.text, tokens=[1, 2], logprobs=[], finish="stop")] for _ in requests]


def proposed(program: Genome, brief: Brief, answers: Scripted, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(model, "WEIGHTS", {"cross": 0.0, "edit": 1e-9, "rubric": 1.0})
    made = LanguageModel(ProposerSection()).propose(brief, ProposalContext(program, 3, answers))
    return [edit.text for candidate in made.candidates for edit in candidate if edit.path == CRITERIA]


def test_a_model_grows_the_file_and_its_prompt_shows_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Scripted("Summary: lengths\n- The answer is as long as the payload.\n")
    assert proposed(seed_genome(), BRIEF, answers, monkeypatch) == [
        "- The answer is as long as the payload.\n"
    ]
    shown = str(answers.asked[0].prompt)
    assert "rev:abcdef=" in shown and "criteria that the rubric lacks" in shown


def test_nothing_grows_without_failures_or_where_the_file_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Scripted("- Rule.\n")
    fine = Brief(**{name: getattr(BRIEF, name) for name in BRIEF.__struct_fields__} | {"failures": []})
    assert proposed(seed_genome(), fine, answers, monkeypatch) == []
    frozen = Genome(files={**seed_genome().files, MANIFEST: 'edit = ["solve.py"]\n'})
    assert proposed(frozen, BRIEF, answers, monkeypatch) == []


@pytest.mark.parametrize("kind", ["rewrite", "edit", "reflect", "cross"])
def test_every_kind_of_prompt_shows_the_rubric(kind: str) -> None:
    brief = Brief(
        **{name: getattr(BRIEF, name) for name in BRIEF.__struct_fields__}
        | {"source": {CRITERIA: "- Cut long payloads.\n"}}
    )
    found = messages(kind, brief, Told("solve.py", "x = 1\n"), 10**5)
    assert found is not None and "- Cut long payloads." in str(found[1].content)
