"""A user's own skill is one decorated function."""

from random import Random

import pytest

import moevolve as mv
from moevolve.errors import UsageError
from moevolve.tasks import registry
from moevolve.tasks.splits import SPLITS


@pytest.fixture(autouse=True)
def no_skills(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has defined nothing yet, whatever ran in this process before."""
    monkeypatch.setattr(registry, "_registered", {})


def define() -> None:
    @mv.skill("text/rot13", levels=(1, 8))
    def rot13(rng: Random, level: int) -> mv.Task:
        """Turn every letter by thirteen."""
        plain = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=level + 2))
        turned = "".join(chr((ord(letter) - 97 + 13) % 26 + 97) for letter in plain)
        return mv.Task(prompt=f"rot13:{plain}=", answer=turned)


def test_it_joins_the_primer_and_proves_itself() -> None:
    define()
    both = mv.suite("primer+user")
    assert len(both.skills) == 13
    assert both["text/rot13"].summary == "Turn every letter by thirteen."
    task = both.draw("train", "text/rot13", 3, 1)
    assert task.skill == "text/rot13"
    assert both.grade(task, task.answer or "").success
    assert mv.suite("user").validate().ok


def test_the_primer_alone_is_unaffected() -> None:
    define()
    assert "text/rot13" not in mv.suite("primer").skills


def test_the_function_itself_stays_usable() -> None:
    @mv.skill("user/one")
    def one(rng: Random, level: int) -> mv.Task:
        return mv.Task(prompt=str(rng.random()), answer="1")

    assert one(Random(0), 1).answer == "1"


def test_a_check_takes_the_place_of_an_answer() -> None:
    @mv.skill("text/even")
    def even(rng: Random, level: int) -> mv.Task:
        """Name an even number above the given one."""
        least = rng.randrange(10**6)
        return mv.Task(
            prompt=f"even above {least}",
            grade=lambda answer: float(answer.isdigit() and int(answer) > least and int(answer) % 2 == 0),
        )

    user = mv.suite("user")
    task = user.draw("dev", "text/even", 1, 0)
    least = int(task.prompt.split()[-1])
    assert user.grade(task, str(least + 2 - least % 2)).success
    assert user.grade(task, "one").failure == "wrong"


def test_defining_it_again_replaces_it_and_another_function_does_not() -> None:
    define()
    define()
    with pytest.raises(UsageError, match=r"text/rot13 is taken by .*rot13"):

        @mv.skill("text/rot13")
        def other(rng: Random, level: int) -> mv.Task:
            return mv.Task(prompt="?", answer="!")


@pytest.mark.parametrize(
    "path", ["rot13", "Text/rot13", "text/", "/rot13", "text//rot13", "text/rot 13", "../x"]
)
def test_a_path_that_cannot_be_used_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="cannot name a skill"):
        mv.skill(path)


def test_levels_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(UsageError, match="levels"):
        mv.skill("text/rot13", levels=(3, 2))


def test_the_user_suite_without_skills_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="name the file that defines skills"):
        mv.suite("user")


def test_a_split_that_a_level_has_no_prompt_of_is_known_without_a_draw() -> None:
    @mv.skill("text/once", levels=(1, 1))
    def once(rng: Random, level: int) -> mv.Task:
        """The only question there is."""
        return mv.Task(prompt="once?", answer="yes")

    user = mv.suite("user")
    assert [split for split in SPLITS if user.has(split, "text/once", 1)] == [user.split_of("once?")]
    define()
    assert all(mv.suite("user").has(split, "text/rot13", 3) for split in SPLITS)
