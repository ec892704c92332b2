"""The gate's driver, on rollouts that are prepared ahead and on scores that are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moevolve.gate.betting import GateVerdict, PairedGate
from moevolve.gate.driver import KnownPairs, RolloutPairs, Sides, decide
from moevolve.protocol.requests import Outcome
from moevolve.protocol.rollouts import RolloutJob, RolloutResult
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
    def grade(self, task: Task, answer: str, stage: tuple[int | str, ...], index: int) -> Verdict:
        return Verdict(score=float(answer == "x"), success=answer == "x")


TASKS = [Task(prompt=f"{index}", answer="x", skill=SKILLS[index % 2], level=1) for index in range(8)]


def rollouts(executor: Recorded, candidate: str, champion: str, batches: int = 99) -> RolloutPairs:
    def sides(batch: int) -> Sides | None:
        if batch >= batches:
            return None
        ours, theirs = (
            RolloutRequest(variant=name, weights=name, program="p", tasks=TASKS, stage=(batch,))
            for name in (candidate, champion)
        )
        return ours, theirs

    return RolloutPairs(RolloutRunner(executor, Exact()), sides, SKILLS, patience=20)


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


def test_a_policy_that_does_not_answer_ends_the_comparison_without_a_promotion() -> None:
    verdict = decide(gate(), rollouts(Recorded(), "mute", "bad"))
    assert (verdict.decision, verdict.n) == ("archive", 0)
    assert verdict.reason == "the policy left 24 paired tasks unanswered"


def test_a_comparison_without_more_tasks_is_given_up() -> None:
    verdict = decide(gate(max_n=400), rollouts(Recorded(), "good", "good", batches=2))
    assert (verdict.decision, verdict.n, verdict.reason) == ("archive", 16, "no tasks are left")


def test_known_scores_are_looked_at_batch_by_batch() -> None:
    looks: list[GateVerdict] = []
    pairs = [(SKILLS[index % 2], 0.5, 0.5) for index in range(20)]
    verdict = decide(gate(max_n=400), KnownPairs(pairs, 8), looks.append)
    assert [look.n for look in looks] == [0, 8, 16, 20]
    assert (verdict.decision, verdict.reason) == ("archive", "no proof in 20 pairs")
