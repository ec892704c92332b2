"""The primer's twelve skills: answers by an independent route, shape of prompts, growth with the level."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.tasks.primer.text import LETTERS
from moevolve.tasks.suite import suite
from moevolve.tasks.task import Task

PRIMER = suite("primer")


def expected(task: Task) -> str:
    verb, _, rest = task.prompt.partition(":")
    payload = rest.removesuffix("=")
    collapsed = "".join(letter for letter, _ in groupby(payload))
    shifted = "".join(
        LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)] for letter in payload if letter in LETTERS
    )
    match verb:
        case "rev":
            return "".join(reversed(payload))
        case "srt":
            return "".join(letter * payload.count(letter) for letter in LETTERS)
        case "srv":
            return "".join(letter * payload.count(letter) for letter in reversed(LETTERS))
        case "ddp":
            return collapsed
        case "drv":
            return "".join(reversed(collapsed))
        case "cae":
            return shifted
        case "crv":
            return "".join(reversed(shifted))
        case "add":
            return str(sum(map(int, payload.split("+"))))
        case "sub":
            first, second = map(int, payload.split("-"))
            assert first >= second
            return str(first - second)
        case "cmp":
            left, right = payload.split(",")
            assert len(left) == len(right)
            assert left != right
            return str(max(int(left), int(right)))
        case "cnt":
            return str(payload.count("x"))
        case "par":
            return "".join(str(sum(map(int, payload[:end])) % 2) for end in range(1, len(payload) + 1))
    raise AssertionError(verb)


@given(path=st.sampled_from(sorted(PRIMER.skills)), level=st.integers(1, 16), seed=st.integers(0, 2**64 - 1))
def test_the_gold_answer_is_right(path: str, level: int, seed: int) -> None:
    task = PRIMER.task(path, level, seed)
    assert task.answer == expected(task)
    assert PRIMER.grade(task, expected(task)).success
    assert set(task.answer) <= set(PRIMER[path].alphabet or "")


def test_three_branches_of_twelve_leaves() -> None:
    assert [node.path for node in PRIMER.tree().children] == ["compose", "number", "text"]
    assert len(PRIMER.skills) == 12
    assert PRIMER.tree().leaves() == list(PRIMER.skills)


@pytest.mark.parametrize("path", sorted(PRIMER.skills))
def test_prompts_are_a_verb_a_payload_and_an_equals_sign(path: str) -> None:
    skill = PRIMER[path]
    assert skill.levels == (1, 16)
    assert skill.summary and "\n" not in skill.summary
    for level in range(1, 17):
        prompt = PRIMER.draw("train", path, level, 0).prompt
        assert prompt.startswith(f"{skill.verb}:") and prompt.endswith("=")
        assert len(skill.verb) == 3
        assert prompt.isascii() and prompt.isprintable()
        assert len(prompt) <= 26


def test_verbs_are_distinct() -> None:
    assert len({skill.verb for skill in PRIMER.skills.values()}) == 12


@pytest.mark.parametrize("path", sorted(set(PRIMER.skills) - {"number/compare"}))
def test_every_level_is_a_character_longer(path: str) -> None:
    lengths = [len(PRIMER.task(path, level, 1).prompt) for level in range(1, 17)]
    assert lengths == list(range(lengths[0], lengths[0] + 16))


def test_compare_grows_by_length_and_by_a_common_beginning_in_turn() -> None:
    for level in range(2, 17, 2):
        task = PRIMER.task("number/compare", level, 5)
        first, second = task.prompt[4:-1].split(",")
        assert first[0] == second[0]
        assert len(first) == 2 + (level - 1) // 2


def test_half_of_a_dedupe_payload_repeats() -> None:
    tasks = [PRIMER.draw("train", "text/dedupe", 16, index) for index in range(200)]
    kept = sum(len(task.answer or "") for task in tasks) / sum(len(task.prompt) - 5 for task in tasks)
    assert 0.45 < kept < 0.6
