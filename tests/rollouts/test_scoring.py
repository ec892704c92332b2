"""Scores, their intervals and mastered levels."""

from moevolve.rollouts.attempts import Attempt, tally
from moevolve.tasks.task import Task, Verdict


def attempt(skill: str, level: int, success: bool, failure: str | None = "wrong") -> Attempt:
    task = Task(skill=skill, level=level, seed=0, prompt="rev:ab=", answer="ba")
    verdict = Verdict(score=float(success), success=success, failure=None if success else failure, detail="")
    return Attempt(task, "ba" if success else "ab", verdict)


def test_failures_are_counted_by_type_and_never_averaged() -> None:
    attempts = [
        attempt("text/sort", 1, True),
        attempt("text/sort", 1, False, "timeout"),
        attempt("text/sort", 1, False),
    ]
    [cell] = tally(attempts)
    assert (cell.attempts, cell.successes) == (3, 1)
    assert cell.failures == {"timeout": 1, "wrong": 1}
