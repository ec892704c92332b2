"""The gate's driver, on rollouts that are prepared ahead and on scores that are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moevolve.gate.betting import GateVerdict, Paired, PairedGate
from moevolve.gate.driver import KnownPairs, Match, RolloutPairs, decide, paired
from moevolve.protocol.requests import Outcome
from moevolve.protocol.rollouts import RolloutJob, RolloutResult
from moevolve.rollouts.attempts import Attempt
from moevolve.rollouts.grading import Given
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner
from moevolve.tasks.task import Task, Verdict

SKILLS = ["a", "b"]


def gate(max_n: int = 64) -> PairedGate:
    return PairedGate(alpha=0.05, margin=0.05, min_n=8, max_n=max_n, skills=SKILLS)


class Prepared:
    """A batch whose answers are by weights: `good` is right, `bad` is wrong, `mute` is left without an answer."""

    def __init__(self, owner: Recorded, jobs: Sequence[RolloutJob]) -> None:
        self.jobs = jobs
        self.owner = owner

    def results(self) -> list[RolloutResult]:
        self.owner.log.append("answered")
        return [
            RolloutResult(
                outcomes=[outcome(job.weights) for _ in job.tasks],
                tokens=10,
                requests=len(job.tasks),
                checked=len(job.tasks),
            )
            for job in self.jobs
        ]

    def cancel(self) -> None:
        self.owner.log.append("dropped")


class Recorded:
    """An executor without a machine."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def submit(self, jobs: Sequence[RolloutJob]) -> Prepared:
        self.log.append("prepared")
        return Prepared(self, jobs)


def outcome(weights: str) -> Outcome:
    mute = weights == "mute"
    return Outcome(
        answer=None if mute else "x" if weights == "good" else "y",
        failure="policy" if mute else None,
        detail="",
        tokens=1,
        requests=1,
        completions=[],
    )


class Exact:
    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]:
        return [Verdict(score=float(each.answer == "x"), success=each.answer == "x") for each in given]


TASKS = [Task(prompt=f"{index}", answer="x", skill=SKILLS[index % 2], level=1) for index in range(8)]


def rollouts(executor: Recorded, candidate: str, champion: str, batches: int = 99) -> RolloutPairs:
    def matches(batch: int) -> list[Match] | None:
        if batch >= batches:
            return None
        ours, theirs = (
            RolloutRequest(variant=name, weights=name, program="p", tasks=TASKS, stage=(batch,))
            for name in (candidate, champion)
        )
        return [Match(ours, theirs)]

    return RolloutPairs(RolloutRunner(executor, Exact()), matches)


@pytest.mark.parametrize(
    ("candidate", "champion", "decision"),
    [("good", "bad", "promote"), ("bad", "good", "discard"), ("good", "good", "archive")],
)
def test_batches_are_drawn_until_the_gate_has_decided(candidate: str, champion: str, decision: str) -> None:
    looks: list[GateVerdict] = []
    verdict = decide(gate(), rollouts(Recorded(), candidate, champion), looks.append)
    assert verdict.decision == decision
    assert [look.n for look in looks] == list(range(0, verdict.n, 8))


def test_the_next_batch_is_prepared_while_one_is_answered_and_dropped_if_nobody_wants_it() -> None:
    executor = Recorded()
    source = rollouts(executor, "good", "bad")
    verdict = decide(gate(), source)
    batches = verdict.n // 8
    assert executor.log == ["prepared", *["prepared", "answered"] * batches, "dropped"]
    assert (source.counts.tokens, source.counts.checked) == (20 * batches, 16 * batches)


def test_a_policy_that_answers_neither_side_ends_the_comparison_without_a_decision() -> None:
    verdict = decide(gate(), rollouts(Recorded(), "mute", "mute"))
    assert (verdict.decision, verdict.n, verdict.missing) == ("void", 0, 8)


def test_a_side_that_alone_is_not_answered_loses() -> None:
    assert decide(gate(), rollouts(Recorded(), "mute", "good")).decision == "discard"


def test_pairs_with_the_holder_of_a_best_level_are_told_from_those_with_the_champion() -> None:
    requests = [
        RolloutRequest(variant=name, weights=name, program="p", tasks=TASKS[:2], stage=(0, name))
        for name in ("good", "bad")
    ]
    source = RolloutPairs(
        RolloutRunner(Recorded(), Exact()),
        lambda batch: (
            [Match(requests[0], requests[1]), Match(requests[1], requests[0], best=True)]
            if not batch
            else None
        ),
    )
    assert source.next() == [
        Paired("a", 1.0, 0.0),
        Paired("b", 1.0, 0.0),
        Paired("a", 0.0, 1.0, best=True),
        Paired("b", 0.0, 1.0, best=True),
    ]
    assert source.next() is None


def test_an_unanswered_attempt_has_no_score() -> None:
    mute = Attempt(TASKS[0], "", Verdict(score=0.0, success=False, failure="policy"))
    wrong = Attempt(TASKS[0], "y", Verdict(score=0.0, success=False, failure="wrong"))
    assert paired([mute, wrong], [wrong, mute]) == [Paired("a", None, 0.0), Paired("a", 0.0, None)]


def test_a_comparison_without_more_tasks_is_given_up() -> None:
    verdict = decide(gate(max_n=400), rollouts(Recorded(), "good", "good", batches=2))
    assert (verdict.decision, verdict.n, verdict.reason) == ("archive", 16, "no fresh tasks are left")


def test_known_scores_are_looked_at_batch_by_batch() -> None:
    looks: list[GateVerdict] = []
    pairs = [Paired(SKILLS[index % 2], 0.5, 0.5) for index in range(20)]
    verdict = decide(gate(max_n=400), KnownPairs(pairs, 8), looks.append)
    assert [look.n for look in looks] == [0, 8, 16, 20]
    assert (verdict.decision, verdict.reason) == ("archive", "no proof in 20 pairs")
