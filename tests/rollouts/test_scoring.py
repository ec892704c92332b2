"""Scores, their intervals and mastered levels."""

from hypothesis import given
from hypothesis import strategies as st

from moevolve.rollouts.attempts import Attempt, tally
from moevolve.rollouts.scoring import score, wilson
from moevolve.tasks.task import Task, Verdict


def attempt(skill: str, level: int, success: bool, failure: str | None = "wrong") -> Attempt:
    task = Task(skill=skill, level=level, seed=0, prompt="rev:ab=", answer="ba")
    verdict = Verdict(score=float(success), success=success, failure=None if success else failure, detail="")
    return Attempt(task, "ba" if success else "ab", verdict)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_mean_and_stays_in_bounds(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    interval = wilson(k, n)
    assert 0 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1


def test_wilson_agrees_with_the_published_example() -> None:
    # 81 of 263 (Newcombe 1998, table I): .2553 to .3662.
    interval = wilson(81, 263)
    assert round(interval.low, 4) == 0.2553
    assert round(interval.high, 4) == 0.3662


def test_a_level_is_mastered_only_with_all_levels_below() -> None:
    attempts = [attempt("text/sort", level, level != 3) for level in range(1, 6) for _ in range(5)]
    interval, skills = score(attempts)
    assert skills["text/sort"].level == 2
    assert interval.mean == 0.8


def test_failures_are_counted_by_type_and_never_averaged() -> None:
    attempts = [
        attempt("text/sort", 1, True),
        attempt("text/sort", 1, False, "timeout"),
        attempt("text/sort", 1, False),
    ]
    [cell] = tally(attempts)
    assert (cell.attempts, cell.successes) == (3, 1)
    assert cell.failures == {"timeout": 1, "wrong": 1}
