"""Drawing tasks: by name, by key, by sample; and names that do not exist."""

import subprocess
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import SPLITS, split_of
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task

PRIMER = suite("primer")
paths = st.sampled_from(sorted(PRIMER.skills))
levels = st.integers(1, 16)


@given(
    path=paths, level=levels, split=st.sampled_from(SPLITS), seed=st.integers(), index=st.integers(0, 10**6)
)
def test_a_draw_lies_in_its_split_and_its_name_makes_it_again(
    path: str, level: int, split: str, seed: int, index: int
) -> None:
    task = PRIMER.draw(split, path, level, seed, index)
    assert split_of(task.prompt) == split
    assert task.id == f"{path}/{level}/{task.seed}"
    assert PRIMER.task(path, level, task.seed) == task
    assert PRIMER.draw(split, path, level, seed, index) == task


def test_draws_are_the_same_in_another_process() -> None:
    code = (
        "from moevolve.tasks.suite import suite; s = suite('primer'); "
        "print([s.draw('gate', path, 9, 7).prompt for path in s.skills])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([PRIMER.draw("gate", path, 9, 7).prompt for path in PRIMER.skills])


def test_a_sample_repeats_no_prompt_while_there_are_fresh_ones() -> None:
    cells = [(path, level) for path in PRIMER.skills for level in (1, 2, 16) for _ in range(12)]
    tasks = PRIMER.sample("sealed", cells, 3, "sealed")
    assert [(task.skill, task.level) for task in tasks] == cells
    assert len({task.prompt for task in tasks}) == len(tasks)
    assert tasks == PRIMER.sample("sealed", cells, 3, "sealed")
    assert tasks != PRIMER.sample("sealed", cells, 4, "sealed")


def test_a_sample_of_a_small_space_repeats_rather_than_fails() -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt=f"digit {rng.randrange(40)}", answer="x")

    small = Suite("small", [Skill(path="text/small", summary="few prompts", generator=generate)])
    assert len(small.sample("train", [("text/small", 1)] * 60)) == 60


def test_a_space_without_a_prompt_in_the_split_is_named() -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt="the same for ever", answer="x")

    single = Suite("single", [Skill(path="text/single", summary="one prompt", generator=generate)])
    other = next(split for split in SPLITS if split != split_of("the same for ever"))
    with pytest.raises(UsageError, match=r"text/single, level 1: .*more distinct prompts"):
        single.draw(other, "text/single", 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: suite("primmer"), "did you mean 'primer'"),
        (lambda: suite("primer+primer"), "two skills are called"),
        (lambda: PRIMER.draw("train", "text/revers", 1), "did you mean 'text/reverse'"),
        (lambda: PRIMER.draw("seald", "text/reverse", 1), "did you mean 'sealed'"),
        (lambda: PRIMER.draw("train", "text/reverse", 17), "levels 1 to 16, not 17"),
        (lambda: PRIMER.draw("train", "text/reverse", 0), "levels 1 to 16, not 0"),
    ],
)
def test_names_that_do_not_exist_are_told_with_the_nearest(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def test_a_leaf_cannot_be_a_branch() -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt="?", answer="!")

    leaves = [Skill(path=path, summary="", generator=generate) for path in ("text/a", "text/a/b")]
    with pytest.raises(UsageError, match="text/a is a skill"):
        Suite("odd", leaves)


def test_a_generator_that_returns_no_task_is_named() -> None:
    odd = Suite("odd", [Skill(path="text/odd", summary="", generator=lambda rng, level: "text")])  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match="text/odd returned str"):
        odd.draw("train", "text/odd", 1)
