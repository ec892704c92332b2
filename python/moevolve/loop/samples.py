"""Which attempts of a stage are kept for people: failures of every skill first, then what was right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moevolve.journal import samples
from moevolve.journal.store import Put
from moevolve.records import Sample
from moevolve.rollouts.attempts import Attempt, Rollouts

FAILED, RIGHT = 18, 6
"""Most attempts of a stage that are kept, by outcome."""


def of_stage(cycle: int, stage: str, variant: str, rollouts: Rollouts) -> Put:
    """The table entry that keeps a choice of a stage's attempts, with what the program asked where that is at hand."""
    attempts = rollouts.attempts
    failed = spread(attempts, success=False, most=FAILED)
    right = spread(attempts, success=True, most=RIGHT)
    return samples.put(
        cycle,
        stage,
        variant,
        [sample(attempts[index]) for index in [*failed, *right]],
    )


def of_gate(cycle: int, candidate: str, flipped: Iterable[tuple[Attempt, Attempt]]) -> Put:
    """The table entry that keeps pairs of attempts at the gate that went two ways: the candidate's, the champion's."""
    return samples.put(
        cycle,
        "gate",
        candidate,
        [sample(ours, other=theirs) for ours, theirs in flipped],
    )


def spread(attempts: Sequence[Attempt], *, success: bool, most: int) -> list[int]:
    """Places of at most `most` attempts of an outcome, each skill's first ones before any skill's later ones."""
    by_skill: dict[str, list[int]] = {}
    for index, attempt in enumerate(attempts):
        if attempt.verdict.success == success:
            by_skill.setdefault(attempt.task.skill, []).append(index)
    turns = max(map(len, by_skill.values()), default=0)
    chosen = [places[turn] for turn in range(turns) for places in by_skill.values() if turn < len(places)]
    return chosen[:most]


def sample(attempt: Attempt, other: Attempt | None = None) -> Sample:
    """An attempt as it is kept, at the gate with the champion's."""
    task, verdict = attempt.task, attempt.verdict
    return Sample(
        task=task.id,
        skill=task.skill,
        level=task.level,
        prompt=task.prompt,
        answer=attempt.answer,
        success=verdict.success,
        score=verdict.score,
        failure=verdict.failure,
        detail=verdict.detail,
        requests=list(attempt.trace),
        other=other.answer if other is not None and other.answered else None,
        other_requests=[] if other is None else list(other.trace),
        other_success=None if other is None else other.verdict.success,
    )
