"""The knock-out score: what a program still gets right when each attempt hears the policy's words for another task.

A program that asks and passes answers on falls to chance; one that computes its answers does not notice. It is a report, and
vetoes nothing: where a suite grants computing, computing is no fault.
"""

from __future__ import annotations

from moevolve.journal.archive import Variant
from moevolve.journal.figures import interval
from moevolve.loop.context import RunContext
from moevolve.records import Guarded
from moevolve.rollouts.attempts import answered
from moevolve.rollouts.scoring import score

NAME = "knock-out"


def knock_out(run: RunContext, cycle: int, candidate: Variant) -> Guarded | None:
    """The record of a candidate's knock-out score on train tasks; None where the run does not want one."""
    wanted = run.config.guard.knock_out
    if not wanted:
        return None
    tasks = run.tasks("train", cycle, f"{NAME}/{candidate.id}", wanted)
    stage = (run.config.seed, cycle, NAME, candidate.id)
    own, other = run.attempts([candidate], tasks, stage, None), run.strangers([candidate], tasks, stage)
    [before], [after] = own, other
    run.bill(cycle, f"{NAME} {candidate.id}")
    count = len(answered(after.attempts))
    if not count or not answered(before.attempts):
        detail = "nothing was answered"
    else:
        detail = (
            f"{interval(score(after.attempts)[0])} of {count} right with another task's words, "
            f"{interval(score(before.attempts)[0])} with the policy's own"
        )
    return Guarded(
        cycle=cycle,
        guard=NAME,
        checked=count,
        vetoed=0,
        detail=detail,
        variant=candidate.id,
        tokens=before.counts.tokens + after.counts.tokens,
    )
