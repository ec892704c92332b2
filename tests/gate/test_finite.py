"""Finite data: tasks count once, decisions spend them, and what a number of tasks can show is known beforehand."""

from random import Random

import pytest

from moevolve.errors import UsageError
from moevolve.gate.betting import Paired, PairedGate
from moevolve.gate.finite import CHURN, SpentTasks, detectable, pools, reach
from moevolve.tasks.skill import Skill
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task


def task(prompt: str, skill: str = "my/evals") -> Task:
    return Task(prompt=prompt, answer="x", skill=skill, level=1)


def test_a_task_counts_once_and_a_decision_spends_it() -> None:
    spent = SpentTasks(finite=["my/evals"])
    assert spent.take([task("p"), task("q"), task("p")]) == [0, 1]
    assert spent.take([task("p")]) == []
    spent.close()
    assert spent.take([task("p"), task("r")]) == [1]


def test_tasks_of_an_endless_generator_count_once_a_decision() -> None:
    spent = SpentTasks()
    assert spent.take([task("p"), task("p")]) == [0]
    spent.close()
    assert spent.take([task("p")]) == [0]
    assert spent.table() == []


def test_the_ledger_goes_on_after_a_snapshot() -> None:
    spent = SpentTasks(finite=["my/evals"])
    spent.take([task("p"), task("q")])
    again = SpentTasks(finite=["my/evals"], spent=spent.table())
    assert again.take([task("q"), task("s")]) == [1]


def test_two_equal_agents_on_thirty_examples_are_seldom_told_apart() -> None:
    promoted = 0
    for seed in range(400):
        rng = Random(seed)
        rows = [task(f"{seed}-{index}") for index in range(30)]
        right, left = ({row.prompt for row in rng.sample(rows, 15)} for _ in range(2))
        spent, gate = SpentTasks(finite=["my/evals"]), PairedGate(0.05, 0.05, 1, 1536, ["my/evals"])
        while gate.verdict.decision is None:
            drawn = [rng.choice(rows) for _ in range(24)]
            fresh = [drawn[index].prompt for index in spent.take(drawn)]
            gate.update([Paired("my/evals", float(p in right), float(p in left)) for p in fresh])
            if not fresh:
                gate.give_up("no fresh tasks are left")
        assert gate.verdict.n <= 30
        promoted += gate.verdict.decision == "promote"
    assert promoted / 400 <= 0.05


def test_thirty_examples_show_large_gains_only() -> None:
    assert detectable(30, 0.05) == pytest.approx(0.29, abs=0.01)
    assert detectable(4, 0.05) is None


def test_more_tasks_show_less_and_churn_hides_it() -> None:
    kind = [detectable(n, 0.005) or 1.0 for n in (30, 100, 1000, 3072)]
    assert kind == sorted(kind, reverse=True)
    assert kind[-1] < 0.01
    churned = detectable(3072, 0.005, churn=0.07)
    assert churned is not None and 0.02 < churned < 0.04


@pytest.mark.parametrize(("n", "gain", "churn"), [(30, 0.30, 0.0), (400, 0.08, 0.05)])
def test_the_power_is_that_of_the_gate(n: int, gain: float, churn: float) -> None:
    # The gate looks at every batch and so may see more, never less.
    least = detectable(n, 0.05, 0.8, churn)
    assert least is not None
    promoted = 0
    for seed in range(300):
        rng = Random(seed)
        gate = PairedGate(0.05, 0.5, 1, n, ["my/evals"], confirm_n=0)
        kinds = [Paired("my/evals", 1.0, 0.0), Paired("my/evals", 0.0, 1.0), Paired("my/evals", 1.0, 1.0)]
        gate.update(rng.choices(kinds, [least + churn, churn, 1 - least - 2 * churn], k=n))
        promoted += gate.verdict.evidence >= 2.9957
    assert least <= gain
    assert promoted / 300 == pytest.approx(0.8, abs=0.07)


def test_a_suite_of_few_examples_is_known_as_one() -> None:
    rows = [f"Question {index}?" for index in range(120)]
    few = Skill(
        path="my/few",
        summary="few",
        generator=lambda rng, level: Task(prompt=rng.choice(rows), answer="x"),
        levels=(1, 1),
    )
    many = Skill(
        path="my/many",
        summary="many",
        generator=lambda rng, level: Task(prompt=f"{rng.random()}", answer="x"),
        levels=(1, 1),
    )
    found = pools(Suite("mine", [few, many]).only(levels=(1, 1)))
    assert list(found) == ["my/few"]
    assert 8 <= found["my/few"] <= 30


@pytest.mark.parametrize("arguments", [(0, 0.05), (10, 0.0), (10, 0.05, 1.0), (10, 0.05, 0.8, 0.5)])
def test_misuse_is_named(arguments: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="detectable needs"):
        detectable(*arguments)  # type: ignore[arg-type]


def test_what_a_decision_can_show_is_told_in_words() -> None:
    assert reach(4096, 0.0045) == (
        "The gate compares up to 4,096 paired tasks a decision: enough to show a gain of "
        f"{detectable(4096, 0.0045, churn=CHURN):+.3f} in 8 of 10 tries, less where tasks run out."
    )
    least = detectable(4096, 0.0045, churn=CHURN)
    assert least is not None and 0.01 < least < 0.05
    assert "no gain at all" in reach(4, 0.0045)
