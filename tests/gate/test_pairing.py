"""Pairs that reach the gate."""

from moevolve.gate.pairing import Pairs
from moevolve.rollouts.attempts import Attempt
from moevolve.rollouts.scoring import mean, score
from moevolve.tasks.task import Task, Verdict


def attempt(skill: str, value: float | None) -> Attempt:
    task = Task(prompt=f"{skill}:", answer="x", skill=skill, level=1)
    failure = "policy" if value is None else None if value else "wrong"
    return Attempt(task, "", Verdict(score=value or 0.0, success=bool(value), failure=failure))


def attempts(*values: float | None) -> list[Attempt]:
    return [attempt("ab"[index % 2], value) for index, value in enumerate(values)]


def test_answered_pairs_pass_in_whole_rounds() -> None:
    pairs = Pairs(["a", "b"])
    assert pairs.take(attempts(1, 0, 1, 1), attempts(0, 0, 1, 0)) == [
        ("a", 1.0, 0.0),
        ("b", 0.0, 0.0),
        ("a", 1.0, 1.0),
        ("b", 1.0, 0.0),
    ]
    assert pairs.unanswered == 0


def test_a_pair_waits_until_every_skill_has_one() -> None:
    pairs = Pairs(["a", "b"])
    assert pairs.take(attempts(1, None), attempts(0, 1)) == []
    assert pairs.unanswered == 1
    assert pairs.take(attempts(0, 1), attempts(0, 0)) == [("a", 1.0, 0.0), ("b", 1.0, 0.0)]


def test_an_unanswered_attempt_is_in_no_mean() -> None:
    found = attempts(1, None, 0, 1)
    assert mean(found) == 2 / 3
    interval, skills = score(found)
    assert (interval.n, interval.mean) == (3, 2 / 3)
    assert (skills["a"].score, skills["b"].score) == (0.5, 1.0)
    assert mean(attempts(None, None)) == 0.0
