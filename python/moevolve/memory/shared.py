"""Memory that outlives runs: what a run takes over when it starts, and what it gives back when it ends.

A run recalls from its own copy, so that whatever others write meanwhile, and whether the folder is still there, changes
nothing about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.admission import admit
from moevolve.memory.lessons import Writes
from moevolve.memory.trust import Evidence, least, trusted
from moevolve.records import Lesson, SharedMemory

BEFORE = 0
"""The cycle that lessons from elsewhere are of: before a run's first."""

SAME = 1e-6
"""Difference that makes no other trust: a store keeps it as f32."""


class Given(msgspec.Struct, frozen=True):
    """What a memory that outlives a run knows of a lesson."""

    run: Evidence = Evidence()
    """The run's evidence, up to then."""
    all: Evidence = Evidence()
    """Evidence of the trust that it has there."""


def taken(store: MemoryStore, run: str) -> Writes:
    """The lessons that hold in a memory, as a run's own of before its first cycle, with their standings."""
    found = store.search(Query(k=max(1, store.count())))
    hits = sorted(found, key=lambda hit: hit.lesson.id)
    return Writes(
        [
            msgspec.structs.replace(
                hit.lesson,
                run=run,
                cycle=BEFORE,
                until=None,
                supersedes=None,
                source=hit.lesson.source or hit.lesson.run,
            )
            for hit in hits
        ],
        [(hit.lesson.id, Standing(trust=hit.trust, pinned=hit.pinned)) for hit in hits],
    )


def described(writes: Writes) -> SharedMemory:
    """What was taken over, for the run's first record."""
    digest = hashlib.blake2b(msgspec.msgpack.encode(writes), digest_size=16)
    return SharedMemory(lessons=len(writes.lessons), digest=digest.hexdigest())


def began(writes: Writes) -> dict[str, Given]:
    """What a memory knows of the lessons that were taken over from it."""
    return {
        lesson: Given(trusted(standing.trust), least(standing.trust)) for lesson, standing in writes.standings
    }


def give(
    own: MemoryStore,
    shared: MemoryStore,
    given: Mapping[str, Given],
    evidence: Mapping[str, Evidence],
    helped: Sequence[str],
) -> dict[str, Given]:
    """Gives a memory what helped, and adds what attempts told of lessons that it has; returns what it knows by then.

    Lessons of which the run learnt nothing stay as they are there. What somebody forgot there stays forgotten, and what was
    pinned stays as it was pinned.

    Args:
        own: the run's memory.
        shared: what outlives it.
        given: what `shared` was told before, when the run began or ended an earlier time.
        evidence: what the run's attempts told about its lessons.
        helped: lessons that may outlive the run.
    """
    for id in helped:
        lesson = own.get(id)
        if lesson is None or lesson.cycle == BEFORE:
            continue
        try:
            admit(shared, _outliving(lesson, shared))
        except UsageError:
            # It is not admitted, or another run has superseded meanwhile what it supersedes: no reason not to end.
            continue
    told, standings = dict(given), []
    for id, known in sorted(evidence.items()):
        before, there = given.get(id, Given()), shared.standing(id)
        fresh = known - before.run
        if there is None or there.pinned or fresh == Evidence():
            continue
        total = before.all + fresh
        # The total's trust stands there where a run was killed after it had given, and gives again.
        if min(abs(there.trust - before.all.trust), abs(there.trust - total.trust)) > SAME:
            total = least(there.trust) + fresh
        standings.append((id, Standing(trust=total.trust, forgotten=there.forgotten or known.expired)))
        told[id] = Given(known, total)
    shared.set_standings(standings)
    return told


def _outliving(lesson: Lesson, shared: MemoryStore) -> Lesson:
    """A lesson as it is kept: with its run as its writer, and superseding only what is there."""
    old = lesson.supersedes
    return msgspec.structs.replace(
        lesson,
        source=lesson.source or lesson.run,
        supersedes=old if old is not None and shared.get(old) is not None else None,
    )
