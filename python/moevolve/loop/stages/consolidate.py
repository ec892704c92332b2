"""Consolidation in a run: lessons that say the same are made one when a cycle ends, each proposal a record."""

from __future__ import annotations

from moevolve.journal.lessons import Standing
from moevolve.loop.context import RunContext
from moevolve.memory.consolidation import fallen, judge, merged, pooled, proposals
from moevolve.memory.lessons import Writes
from moevolve.records import Consolidated

MOST = 64
"""Proposals of a cycle."""
REST = 3
"""Cycles before a group that was left as it was is proposed again."""
DIGITS = 9


def consolidate(run: RunContext, cycle: int) -> None:
    """Makes lessons one that say the same, in what the cycle will write into memory."""
    if not run.lessons.on or not run.config.memory.consolidate:
        return
    state = run.state
    rests = [each for each in state.merges_declined if cycle - each.cycle < REST]
    resting = {frozenset(each.sources) for each in [*rests, *state.merges_taken_back]}
    taken = {lesson.supersedes for lesson in state.writes.lessons}
    found = proposals(run.lessons.store, run.lessons.run, cycle, state.evidence, resting)
    lessons, standings = list(state.writes.lessons), dict(state.writes.standings)
    for members in [each for each in found if not taken & {m.lesson.id for m in each}][:MOST]:
        together, (decided, reason) = pooled(members), judge(members)
        lesson = merged(run.lessons.run, cycle, members) if decided else None
        record = Consolidated(
            cycle=cycle,
            merge=f"m{state.next_merge:03d}",
            skill=members[0].lesson.skill,
            about=members[0].lesson.kind,
            decision="merged" if decided else "declined",
            reason=reason,
            lesson="" if lesson is None else lesson.id,
            sources=[each.lesson.id for each in members],
            evidence=[
                (round(each.evidence.for_, DIGITS), round(each.evidence.against, DIGITS)) for each in members
            ],
            trust=round(together.trust, DIGITS),
        )
        state.next_merge += 1
        run.journal.write([record])
        if lesson is None:
            state.merges_declined.append(record)
            continue
        state.merges.append(record)
        state.evidence[lesson.id] = together
        lessons.append(lesson)
        standings[lesson.id] = together.standing
        for each in members:
            # What it supersedes is absent by that, and holds again once the one is taken back.
            if each.holds and each.lesson.id != lesson.supersedes:
                standings[each.lesson.id] = Standing(trust=each.evidence.trust, forgotten=True)
        if together.expired:
            standings |= fallen(state.merges, [lesson.id], state.evidence)
    state.writes = Writes(lessons, list(standings.items()))
