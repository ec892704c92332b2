"""The sealed grader accepts the gold answer and nothing else, and says how an answer failed."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.grading import grade
from moevolve.tasks.task import Task, Verdict

TASK = Task(prompt="rev:bdca=", answer="acdb")


@pytest.mark.parametrize("answer", ["acdb", " acdb", "acdb\n", "\tacdb  "])
def test_blanks_around_an_answer_do_not_count(answer: str) -> None:
    verdict = grade(TASK, answer, "abcd")
    assert verdict.success
    assert verdict.score == 1.0
    assert verdict.failure is None


@given(st.text(max_size=30))
def test_only_the_gold_answer_succeeds(answer: str) -> None:
    verdict = grade(TASK, answer, "abcd")
    assert verdict.success == (answer.strip() == "acdb")
    assert verdict.score == float(verdict.success)
    assert (verdict.failure is None) == verdict.success


@pytest.mark.parametrize("answer", ["acd", "acdbb", "bdca", "a cdb"])
def test_no_credit_for_a_part_a_prefix_or_a_longer_answer(answer: str) -> None:
    assert grade(TASK, answer).score == 0.0
    assert grade(TASK, answer).failure == "wrong"


@pytest.mark.parametrize("answer", ["", "   ", "acdz", "a-c", "ab" * 40])
def test_empty_alien_and_endless_answers_are_malformed(answer: str) -> None:
    assert grade(TASK, answer, "abcd").failure == "malformed"


@given(st.text(max_size=30))
def test_a_verdict_never_tells_the_gold_answer(answer: str) -> None:
    verdict = grade(TASK, answer, "abcd")
    if not verdict.success and "acdb" not in answer:
        assert "acdb" not in verdict.detail


def test_a_check_of_ones_own_decides_alone() -> None:
    task = Task(prompt="an even number, please", grade=lambda answer: float(answer in ("2", "4")))
    assert grade(task, " 4 ").success
    assert grade(task, "3").failure == "wrong"
    assert grade(task, "").failure == "malformed"


def test_partial_credit_is_a_score_and_no_success() -> None:
    verdict = grade(Task(prompt="?", grade=lambda answer: 0.75), "x")
    assert verdict.score == 0.75
    assert not verdict.success


@pytest.mark.parametrize("score", [1.5, -0.1, math.nan, math.inf])
def test_a_check_outside_of_the_unit_interval_is_named(score: float) -> None:
    task = Task(prompt="?", skill="text/odd", grade=lambda answer: score)
    verdict = grade(task, "x")
    assert (verdict.score, verdict.success, verdict.failure) == (0.0, False, "check_error")
    assert "text/odd" in verdict.detail


@pytest.mark.parametrize("check", [lambda answer: int(answer), lambda answer: None, lambda answer: 1 / 0])
def test_a_check_that_fails_is_a_verdict_with_its_traceback(check) -> None:
    verdict = grade(Task(prompt="?", skill="text/odd", grade=check), "letters")
    assert (verdict.score, verdict.success, verdict.failure) == (0.0, False, "check_error")
    assert "Error" in verdict.detail


def test_a_task_without_answer_and_check_is_named() -> None:
    with pytest.raises(UsageError, match="neither an answer nor a check"):
        grade(Task(prompt="?"), "x")


REASONED = Task(prompt="2 + 2", answer="4", match="last line")


@pytest.mark.parametrize("answer", ["4", "I add.\n4", "4 or 5?\n\n  4  \n", "x" * 5000 + "\n4"])
def test_the_last_line_of_a_reasoned_answer_counts_where_it_may(answer: str) -> None:
    assert grade(REASONED, answer).success
    assert grade(Task(prompt="2 + 2", answer="4"), answer).success == (answer == "4")


@pytest.mark.parametrize("answer", ["4\n5", "I say 4", "4\nor so", "1\n2\n3\n4\n5"])
def test_no_other_line_counts(answer: str) -> None:
    assert grade(REASONED, answer).failure == "wrong"


@pytest.mark.parametrize(
    "name", ["policy", "infrastructure", "check_error", "check_timeout", "", "x" * 41, "Two\nlines", 3]
)
def test_no_failure_that_a_check_names_has_a_meaning_to_runs(name: Any) -> None:
    """An attempt that failed by `policy` or `infrastructure` is left out of means: a check cannot have it so."""
    task = Task(
        prompt="?", grade=lambda answer: Verdict(score=0.0, success=False, failure=name, detail="why")
    )
    assert grade(task, "x") == Verdict(score=0.0, success=False, failure="wrong", detail="why")
    assert Attempt(task, "x", grade(task, "x")).answered


def test_a_check_names_failures_of_its_own() -> None:
    task = Task(prompt="?", grade=lambda answer: Verdict(score=0.5, success=False, failure="off by one"))
    assert grade(task, "x").failure == "off by one"
