"""`validate` passes the primer and finds each kind of fault."""

import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from moevolve.errors import UsageError
from moevolve.tasks.environment import Environment
from moevolve.tasks.grading import CHECK_TIMEOUT, SUCCESS, refused
from moevolve.tasks.skill import Generator, Skill
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task, Verdict
from moevolve.tasks.validation import CONSTANT_LIMIT, GLANCED


def test_the_primer_proves_itself() -> None:
    report = suite("primer").validate()
    assert report.ok, report.problems
    for leaf in report.leaves:
        assert leaf.gold == 1.0
        assert leaf.constant < CONSTANT_LIMIT
        assert leaf.prompts >= 200


@pytest.mark.parametrize("level", [1, 2, 3])
def test_short_levels_of_the_primer_hold_no_constant_either(level: int) -> None:
    # A run may use a few levels only, where answers are few: their best constant stays bounded too.
    primer = suite("primer")
    for path in primer.skills:
        answers = [primer.draw("sealed", path, level, index).answer for index in range(300)]
        assert max(answers.count(answer) for answer in set(answers)) / 300 < 0.27, path


def problems(generator: Generator) -> str:
    report = Suite("odd", [Skill(path="text/odd", summary="", generator=generator)]).validate(200)
    assert not report.ok
    return "\n".join(report.problems)


def many(rng: Random) -> str:
    return f"prompt {rng.randrange(10**6)}"


def test_a_skewed_answer_is_found() -> None:
    assert "constant answer 'yes'" in problems(
        lambda rng, level: Task(prompt=many(rng), answer=rng.choice(["yes", "no"]))
    )


def test_a_check_that_takes_anything_is_found() -> None:
    assert "constant answer" in problems(lambda rng, level: Task(prompt=many(rng), grade=lambda answer: 1.0))


def test_a_check_that_refuses_the_gold_answer_is_found() -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt=many(rng), answer=str(rng.random()), grade=lambda answer: 0.0)

    assert "gold answers score 0.000" in problems(generate)


def test_a_check_that_always_raises_is_found_with_what_it_raised() -> None:
    def check(answer: str) -> float:
        raise KeyError("expected")

    assert "the check failed on every answer to 200 of 200 tasks" in problems(
        lambda rng, level: Task(prompt=many(rng), grade=check)
    )
    assert "KeyError: 'expected'" in problems(lambda rng, level: Task(prompt=many(rng), grade=check))


def test_a_check_that_raises_at_some_answers_alone_is_in_order() -> None:
    def generate(rng: Random, level: int) -> Task:
        right = rng.randrange(10**6)
        return Task(prompt=many(rng), grade=lambda answer: float(int(answer) == right))

    assert Suite("odd", [Skill(path="text/odd", summary="", generator=generate)]).validate(200).ok


def test_no_samples_prove_nothing() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        suite("primer").validate(0)


def test_a_generator_with_a_source_of_its_own_is_found() -> None:
    counter = itertools.count()

    def generate(rng: Random, level: int) -> Task:
        return Task(prompt=many(rng), answer=str(next(counter)))

    assert "gave two tasks" in problems(generate)


def test_a_small_space_is_found() -> None:
    def generate(rng: Random, level: int) -> Task:
        number = rng.randrange(90)
        return Task(prompt=f"prompt {number}", answer=str(number))

    assert "distinct prompts at level 1; 200 are needed" in problems(generate)


def test_checks_that_do_not_end_are_named_once_and_waited_for_once() -> None:
    def generate(rng: Random, level: int) -> Task:
        return Task(prompt=many(rng), answer="x", grade=lambda answer: 1.0)

    asked: list[int] = []

    def judge(given: Sequence[tuple[Task, str]]) -> list[Verdict]:
        asked.append(len(given))
        return [refused(CHECK_TIMEOUT, "asleep")] * len(given)

    odd = Suite("odd", [Skill(path=f"text/{name}", summary="", generator=generate) for name in "ab"])
    with pytest.raises(
        UsageError, match=r"of 200 answers to tasks of text/a did not end, .*: asleep\. Nothing more"
    ):
        odd.validate(200, judge)
    assert asked == [200]


def test_where_an_answer_takes_a_process_cheap_ones_meet_few_tasks_and_the_best_of_them_more() -> None:
    def generate(rng: Random, level: int) -> Task:
        right = rng.choice(["yes", "yes", "no", "7"])
        return Task(prompt=f"{many(rng)} {right}", answer=right, grade=lambda answer: float(answer == right))

    met: Counter[str] = Counter()

    def judge(given: Sequence[tuple[Task, str]]) -> list[Verdict]:
        met.update(answer for _, answer in given)
        return [SUCCESS if answer == task.answer else refused("wrong", "") for task, answer in given]

    odd = Suite("odd", [Skill(path="text/odd", summary="", generator=generate)])
    [leaf] = odd.validate(400, judge).leaves
    assert leaf.gold == 1.0 and leaf.constant_answer == "yes" and leaf.constant == pytest.approx(0.5, abs=0.1)
    assert met["a"] == GLANCED and 100 <= met["yes"] - 200 <= 100 + 2 * GLANCED + 40


@pytest.mark.parametrize("levels", [2, 4, 5, 10])
def test_a_cheap_answer_that_passes_all_tasks_but_every_so_many_th_is_found(levels: int) -> None:
    def generate(rng: Random, level: int) -> Task:
        number = many(rng)
        return Task(prompt=number, answer=number, grade=lambda answer: float(answer == number))

    def judge(given: Sequence[tuple[Task, str]]) -> list[Verdict]:
        # Levels of the tasks go round.
        passed = [answer == task.answer or (answer == "None" and task.level > 1) for task, answer in given]
        return [SUCCESS if each else refused("wrong", "") for each in passed]

    odd = Suite("odd", [Skill(path="text/odd", summary="", generator=generate, levels=(1, levels))])
    [leaf] = odd.validate(100, judge).leaves
    assert (leaf.constant_answer, leaf.constant) == ("None", 1 - 1 / levels)


def test_tasks_that_differ_in_their_world_alone_are_a_space() -> None:
    class Room(Environment):
        """A room."""

    def generate(rng: Random, level: int) -> Task:
        return Task(prompt="Look around.", environment=Room, fields={"room": rng.randrange(10**6)})

    found = Suite("odd", [Skill(path="text/odd", summary="", generator=generate)]).validate(50)
    assert found.leaves[0].prompts >= 200
