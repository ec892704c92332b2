"""Answers of a language model, read as edits: what is none is said to be none."""

from __future__ import annotations

from typing import Any

import pytest

from moevolve.agents.brief import Brief, Failure
from moevolve.agents.genome import Genome, seed_genome
from moevolve.proposers.answers import Unusable, replaced, summary, whole
from moevolve.proposers.checks import compiles
from moevolve.proposers.prompting import KINDS, Told, messages

SOURCE = "a = 1\nb = 2\nb = 2\n"


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def test_the_longest_block_is_the_file() -> None:
    assert whole("See:\n```\nx\n```\nand\n```python\na = 1\nb = 2\n```\nDone.") == "a = 1\nb = 2\n"
    assert whole("````text\nUse ``` here\n````\n") == "Use ``` here\n"


@pytest.mark.parametrize("answer", ["", "It is perfect.", "```python\na = 1\n", "```\n\n```\n"])
def test_an_answer_without_a_whole_block_is_no_file(answer: str) -> None:
    with pytest.raises(Unusable):
        whole(answer)


def test_blocks_are_applied_in_their_order() -> None:
    assert replaced(block("a = 1\n", "a = 3\n") + block("a = 3\n", ""), SOURCE) == "b = 2\nb = 2\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("nothing", "no block"),
        (block("c = 3\n", "c = 4\n"), "0 times"),
        (block("b = 2\n", "c = 4\n"), "2 times"),
        (block("", "x\n"), "0 times"),
    ],
)
def test_a_search_text_stands_in_the_file_once(answer: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        replaced(answer, SOURCE)


def test_a_summary_is_one_harmless_line() -> None:
    assert summary("**Summary:** split \x1b[31mlong\x1b[0m payloads\nmore", "x").startswith("split ")
    assert "\x1b" not in summary("Summary: \x1b[31m", "otherwise")
    assert summary("no such line", "otherwise") == "otherwise"
    assert len(summary("Summary: " + "x" * 999, "")) == 200


def test_what_is_no_python_is_named_by_file_and_line() -> None:
    assert compiles({"a.py": "x = 1\n", "b.md": "def ("}) is None
    fault = compiles({"a.py": "x = 1\ndef f(:\n"})
    assert fault is not None
    assert fault.startswith("a.py: ")
    assert "line 2" in fault
    assert compiles({"a.py": "x = 1\0"}) is not None


def brief(**changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "source": seed_genome().files,
        "skills": [],
        "failures": [
            Failure(prompt="p" * 300, skill=f"s{i % 3}", level=1, answer="a", failure="wrong")
            for i in range(9)
        ],
        "history": [],
        "lineage": [],
        "candidates": 1,
        "cycle": 1,
        "metric": "mean success",
    }
    return Brief(**fields | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_is_filled_and_fits(kind: str) -> None:
    told = Told("solve.py", "x = 1\n", error="e", other="y = 2\n")
    for most in (20_000, 3_000, 2_000):
        made = messages(kind, brief(), told, most)
        assert made is not None
        assert [message.role for message in made] == ["system", "user"]
        assert sum(len(message.content) for message in made) <= most
        assert "$" not in made[1].content
        assert "x = 1" in made[1].content
    assert messages(kind, brief(), told, 100) is None


def test_code_with_dollars_is_left_as_it_is() -> None:
    made = messages("rewrite", brief(), Told("solve.py", "price = '$metric ${x} $$'\n"), 20_000)
    assert made is not None
    assert "price = '$metric ${x} $$'" in made[1].content


def test_a_programs_own_prompt_takes_the_place_of_ours() -> None:
    own = Genome(files={**seed_genome().files, "proposer/edit.md": "Terse.\n---\nFix $path"})
    made = messages("edit", brief(source=own.files), Told("solve.py", "x"), 1000)
    assert made is not None
    assert [message.content for message in made] == ["Terse.", "Fix solve.py"]
