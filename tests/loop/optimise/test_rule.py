"""Who becomes champion, by scores alone: evaluations of a run that never happened, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from moevolve.loop.optimise import rule
from moevolve.loop.optimise.archive import ProgramArchive
from moevolve.records import Improved, Rated, VariantAdded

FRESH = 8
Evaluator = Callable[[str, int], float | None]
"""(program, how often it was evaluated before) -> its score; None where the evaluation fails."""


class Course:
    """A run with one evaluation in flight: second looks first, else another child of the champion.

    Args:
        evaluator: scores.
        children: how many there are.
        alpha: the run's error budget.
    """

    def __init__(self, evaluator: Evaluator, children: int, alpha: float = 0.05) -> None:
        self.archive = ProgramArchive(0, alpha)
        self.improved: list[Improved] = []
        self.looks: dict[str, int] = {}
        self._evaluator = evaluator
        self._child("v0")
        for number in range(1, children + 1):
            self._child(f"v{number}")
            self.settle()

    def settle(self) -> None:
        """Evaluates until no decision waits."""
        while (name := rule.wanted(self.archive, FRESH, {})) is not None:
            self.evaluate(name, "recheck")

    def _child(self, name: str) -> None:
        parents = [self.archive.champion] if self.archive.champion else []
        added = VariantAdded(
            variant=name,
            parents=parents,
            cycle=self.archive.applied,
            level="program",
            weights="",
            program=name,
            operator="",
            summary="",
            score=None,
        )
        self.archive.take(added)
        self.evaluate(name, "candidate")

    def evaluate(self, name: str, purpose: str) -> None:
        """One evaluation, and the decisions that follow from it."""
        before = self.looks.get(name, 0)
        self.looks[name] = before + 1
        score = self._evaluator(name, before)
        failure = None if score is not None else "timeout"
        self.archive.take(
            Rated(
                evaluation=self.archive.applied,
                variant=name,
                purpose=purpose,  # type: ignore[arg-type]
                score=score,
                failure=failure,
                detail="",
                metrics={},
            )
        )
        while (made := rule.decision(self.archive, FRESH)) is not None:
            self.improved.append(made)
            self.archive.take(made)

    @property
    def promoted(self) -> list[str]:
        return [each.candidate for each in self.improved if each.decision == "promote"]


def games(seed: int, games: int = 5, chance: float = 0.6) -> Evaluator:
    """The share of some games that are won, the same chance for every program."""
    draws = Random(seed)
    return lambda name, before: sum(draws.random() < chance for _ in range(games)) / games


def steady(scores: dict[str, float]) -> Evaluator:
    """The same score at every evaluation, none where the table has none."""
    return lambda name, before: scores.get(name, 0.0)


def test_equal_programs_under_coarse_noise_are_promoted_as_seldom_as_the_budget_says() -> None:
    """The share of five games: two evaluations of a lucky program are often equal, and so they prove nothing."""
    runs = [Course(games(seed), 40) for seed in range(300)]
    assert sum(bool(run.promoted) for run in runs) / len(runs) < 0.05


def test_a_steady_evaluator_costs_one_more_look_at_each_side() -> None:
    run = Course(steady({"v0": 1.0, "v2": 3.0, "v4": 2.0, "v5": 5.0}), 6)
    assert run.promoted == ["v2", "v5"]
    assert run.looks == {"v0": 2, "v1": 1, "v2": 2, "v3": 1, "v4": 1, "v5": 2, "v6": 1}
    assert not run.archive.noisy


def test_one_score_that_differs_makes_the_whole_run_one_of_tests() -> None:
    """`v1` was seen to scatter; `v2` and the champion were not."""
    scattered = {("v1", 0): 5.0, ("v1", 1): 0.5, ("v1", 2): 0.5, ("v1", 3): 0.5}
    constant = {"v0": 1.0, "v2": 2.0}
    run = Course(lambda name, before: scattered.get((name, before), constant.get(name, 0.0)), 2)
    [first, second] = run.improved
    assert (first.candidate, first.decision) == ("v1", "archive")
    assert (second.candidate, second.rule, len(second.candidate_scores)) == ("v2", "permutation", FRESH)


class TestFurtherEvaluationsThatFail:
    """A failure is no score; it is tried again, up to three times in a row."""

    def failing(self, program: str, times: int) -> Evaluator:
        scores = {"v0": 1.0, "v1": 2.0}
        return lambda name, before: None if name == program and 0 < before <= times else scores.get(name, 0.0)

    @pytest.mark.parametrize("program", ["v0", "v1"])
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_few_change_nothing(self, program: str, times: int) -> None:
        run = Course(self.failing(program, times), 1)
        assert run.promoted == ["v1"] and run.looks[program] == 2 + times

    def test_a_champion_that_fails_thrice_is_taken_as_it_is(self) -> None:
        run = Course(self.failing("v0", 99), 1)
        assert run.promoted == ["v1"] and run.looks["v0"] == 1 + rule.TRIES

    def test_a_candidate_that_fails_thrice_is_given_up(self) -> None:
        run = Course(self.failing("v1", 99), 1)
        assert not run.improved and run.looks["v1"] == 1 + rule.TRIES

    def test_a_champion_gets_as_many_at_each_decision(self) -> None:
        draws = Random(3)

        def evaluator(name: str, before: int) -> float | None:
            if name == "v0" and 0 < before <= 2 * rule.TRIES:
                return None
            return (2.0 if name == "v2" else 1.0) + draws.gauss(0, 0.01) + 0.1 * (name == "v1" and not before)

        run = Course(evaluator, 2)
        assert [each.candidate for each in run.improved] == ["v1", "v2"]
        assert run.looks["v0"] >= 1 + 2 * rule.TRIES


def test_a_test_takes_the_first_fresh_scores_however_many_there_are() -> None:
    """A policy that looks at members again, as `hgm` does, looks at the champion most; its tests stay as small."""
    draws = Random(5)
    run = Course(lambda name, before: (3.0 if name == "v1" else 0.0) + draws.gauss(0, 0.1), 0)
    for _ in range(40):
        run.evaluate("v0", "recheck")
    run._child("v1")
    run.settle()
    [made] = run.improved
    assert made.decision == "promote" and len(made.candidate_scores) == len(made.champion_scores) == FRESH
    assert made.champion_scores == run.archive.programs["v0"].fresh[:FRESH]


class TestAfterManyDecisionsThatPromotedNobody:
    """Each leaves the next one less of the error budget; more scores have a smaller least p-value."""

    def late(self, jump: int, seed: int = 1) -> Evaluator:
        draws = Random(seed)
        return lambda name, before: (100.0 if int(name[1:]) >= jump else 0.0) + draws.gauss(0, 1)

    def test_a_large_gain_is_found_all_the_same(self) -> None:
        run = Course(self.late(300), 310)
        assert len(run.improved) > 100
        assert [each.decision for each in run.improved if each.candidate == "v300"] == ["promote"]
        made = next(each for each in run.improved if each.candidate == "v300")
        assert made.p is not None and made.alpha is not None
        assert len(made.candidate_scores) == len(made.champion_scores) > FRESH
        assert made.p == rule.least_p(len(made.candidate_scores)) <= made.alpha / 2

    def test_when_no_test_can_promote_nobody_is_looked_at_again(self) -> None:
        run = Course(self.late(10**6), 60, alpha=2e-5)
        assert rule.exhausted(run.archive.spending.level)
        before = len(run.improved)
        for number in range(100, 110):
            run._child(f"v{number}")
            assert rule.wanted(run.archive, FRESH, {}) is None
        assert len(run.improved) == before

    def test_chance_promotes_as_seldom_as_the_budget_says(self) -> None:
        """Programs that are all alike, decided about by tests of eight to twelve scores."""
        runs = [Course(self.late(10**6, seed), 120) for seed in range(60)]
        assert max(len(each.candidate_scores) for run in runs for each in run.improved) > FRESH
        assert sum(bool(run.promoted) for run in runs) / len(runs) < 0.05


def test_a_tests_size_follows_from_its_level() -> None:
    assert [rule.size(level, 4) for level in (0.5, 0.02, 0.004545, 1e-6, 1e-9)] == [4, 5, 6, 12, 12]
    assert rule.size(0.5, 8) == 8
