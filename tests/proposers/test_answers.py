"""Answers of a language model, read as edits: what is none is said to be none."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.agents.brief import Brief, Failure
from moevolve.agents.genome import Genome, seed_genome
from moevolve.proposers.answers import Unusable, fence, replaced, summary, whole
from moevolve.proposers.checks import compiles
from moevolve.proposers.prompting import KINDS, Told, messages
from moevolve.proposers.rubric import grown

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
        (block("c = 3\n", "c = 4\n"), "not at all"),
        (block("b = 2\n", "c = 4\n"), "more than once"),
        (block("", "x\n"), "not at all"),
    ],
)
def test_a_search_text_stands_in_the_file_once(answer: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        replaced(answer, SOURCE)


DOCSTRING = 'def solve(task):\n    """Example:\n\n    ```\n    x\n    ```\n    """\n    return 1\n'
IN_A_TEXT = 'PROMPT = """Write\n```json\n{}\n```\nnow"""\n'
PROMPT_FILE = "You improve.\n---\n$rules\n\nThe file:\n\n```\n$source\n```\n\nAnswer in one block.\n"
LISTING = "How to:\n\n```sh\nmake\n```\n\nand then\n\n````\n```\n````\n\nDone.\n"


@pytest.mark.parametrize("text", [DOCSTRING, IN_A_TEXT, PROMPT_FILE, LISTING])
@pytest.mark.parametrize("before", ["", "Quoted:\n```\nx\n```\n"])
def test_fences_inside_a_file_belong_to_it(text: str, before: str) -> None:
    mark = fence(text)
    assert whole(f"{before}Summary: x\n{mark}text\n{text}{mark}\nDone.", text) == text


@pytest.mark.parametrize("text", [DOCSTRING, IN_A_TEXT])
def test_python_in_a_short_fence_is_what_parses(text: str) -> None:
    assert whole(f"Summary: x\n```python\n{text}```\n", "x = 1\n", python=True) == text
    assert whole(f"See\n```\na b\n```\nand\n```python\n{text}```\n", python=True).startswith(text[:8])


@pytest.mark.parametrize("mark", ["```", "````"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_python_beside_an_example_is_the_longest_block_that_parses(mark: str, order: tuple[int, int]) -> None:
    program = "A = 1\nB = 2\n"
    for example in ("A = 2\n", "depth 12.5 after 3 steps, which is more than before\n"):
        parts = [f"For example:\n{mark}\n{example}{mark}\n", f"The file:\n{mark}python\n{program}{mark}\n"]
        assert whole("".join(parts[at] for at in order), "A = 0\n", python=True) == program


def test_python_that_does_not_parse_is_what_the_answer_says() -> None:
    assert whole("````python\ndef f(:\n````\n", "A = 0\n", python=True) == "def f(:\n"


def test_a_file_with_fences_in_a_short_fence_is_read_to_the_last() -> None:
    assert whole(f"```markdown\n{PROMPT_FILE}```\n", PROMPT_FILE) == PROMPT_FILE


def test_an_answer_that_was_cut_is_no_file() -> None:
    for text in ("````python\na = 1\n```\nb\n```\n", "```python\na = 1\n```json\n{}\n```\n"):
        with pytest.raises(Unusable, match="does not end"):
            whole(text)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_file_keeps_its_line_ends_and_its_end(end: str, last: bool) -> None:
    def written(text: str) -> str:
        return (text if last else text.removesuffix("\n")).replace("\n", end)

    source = written("A = 1\n\n\nB = 2\n")
    for answers in ("\n", "\r\n"):
        edit = block("B = 2\n", "B = 3\n").replace("\n", answers)
        assert replaced(edit, source) == written("A = 1\n\n\nB = 3\n")
        assert whole("```\nB = 3\n```\n".replace("\n", answers), source) == written("B = 3\n")


def test_a_heading_parts_no_block() -> None:
    told = replaced(block("Title\n=====\n", "Name\n====\n").replace("====\n>", "=====\n>"), "Title\n=====\n")
    assert told == "Name\n=====\n"


def test_a_file_with_blocks_of_edits_is_written_anew_alone() -> None:
    with pytest.raises(Unusable, match="written anew"):
        replaced(block("a\n", "b\n"), "a\n" + block("old lines\n", "new lines\n"))


def places(text: str, part: str) -> list[int]:
    """Where a part begins in a text, also from within itself."""
    return [at for at in range(len(text)) if text.startswith(part, at)]


@pytest.mark.parametrize("source", ["x\nx\nx\n", "x\nx\nx", "ax\nx\nx\n"])
def test_a_search_text_that_stands_there_from_within_itself_is_ambiguous(source: str) -> None:
    with pytest.raises(Unusable, match="more than once"):
        replaced(block("x\nx\n", "y\n"), source)


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=8), st.integers(1, 4))
def test_a_block_is_applied_where_its_text_stands_once_and_nowhere_else(
    lines: list[str], length: int
) -> None:
    source, old = "".join(f"{each}\n" for each in lines), "".join(f"{each}\n" for each in lines[:length])
    if len(at := places(source, old)) == 1:
        assert replaced(block(old, "new\n"), source) == source[: at[0]] + "new\n" + source[at[0] + len(old) :]
    else:
        with pytest.raises(Unusable):
            replaced(block(old, "new\n"), source)


TEXTS = st.text(st.sampled_from("`~ \tab'\"<=>\n"), max_size=60)


@given(TEXTS, TEXTS)
def test_any_file_in_its_fence_comes_back(text: str, source: str) -> None:
    text = f"{text}x\n"
    mark = fence(text, source)
    assert whole(f"Summary: any\n{mark}text\n{text}{mark}", source + "\n" if source else "") == text


@given(st.lists(st.sampled_from(["a", "b c", "", "  d", "e = 1"]), min_size=1), st.data())
def test_any_lines_that_stand_once_are_replaced(lines: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(lines) - 1))
    last = data.draw(st.integers(first + 1, len(lines)))
    lines.append("end")
    source, old = "\n".join(lines), "".join(f"{each}\n" for each in lines[first:last])
    if len(places(f"{source}\n", old)) == 1:
        told = replaced(block(old, "new\n"), source)
        assert told == "\n".join([*lines[:first], "new", *lines[last:]])


@pytest.mark.parametrize(
    "line", ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "```x", "```", "~~~", "", "- ", "Summary"]
)
def test_no_answer_takes_time_that_grows_with_its_square(line: str) -> None:
    answer = f"{line}\n" * 60_000
    began = time.process_time()
    for read in (whole, lambda answer: replaced(answer, "a\n"), lambda answer: grown("", answer)):
        with contextlib.suppress(Unusable):
            read(answer)
    summary(answer, "otherwise")
    assert time.process_time() - began < 3


def test_a_source_is_shown_as_it_stands() -> None:
    source = "import re\n\n\ndef solve(task):\n    return '```'\n\n\n\n# end\n"
    for kind in ("edit", "rewrite", "mend"):
        made = messages(kind, brief(), Told("solve.py", source, error="e"), 20_000)
        assert made is not None
        assert source in made[1].content
        assert "\n\n\n" not in made[1].content.replace(source, "")


def test_a_summary_is_one_harmless_line() -> None:
    assert summary("**Summary:** split \x1b[31mlong\x1b[0m payloads\nmore", "x").startswith("split ")
    assert "\x1b" not in summary("Summary: \x1b[31m", "otherwise")
    assert summary("Summary:\r\n\r\nsplit", "x") == "split"
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
