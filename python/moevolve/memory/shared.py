"""Memory that outlives runs: what a run takes over when it starts, and what it gives back when it ends.

A run recalls from its own copy, so that whatever others write meanwhile, and whether the folder is still there, changes
nothing about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.memory.admission import NotAdmitted, admit
from moevolve.memory.lessons import Writes
from moevolve.memory.trust import Evidence, trusted
from moevolve.records import Lesson, SharedMemory

BEFORE = 0
"""The cycle that lessons from elsewhere are of: before a run's first."""


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


def evidence(writes: Writes) -> dict[str, Evidence]:
    """What trusts that were earned elsewhere count for."""
    return {lesson: trusted(standing.trust) for lesson, standing in writes.standings}


def give(own: MemoryStore, shared: MemoryStore, evidence: Mapping[str, Evidence], helped: list[str]) -> int:
    """Gives a memory what helped, and to lessons that came from it the trust that they have now; returns how many are new.

    Args:
        own: the run's memory.
        shared: what outlives it.
        evidence: what the run's attempts told about its lessons.
        helped: lessons that may outlive the run.
    """
    new = 0
    for id in helped:
        lesson = own.get(id)
        if lesson is None or lesson.cycle == BEFORE:
            continue
        try:
            admit(shared, _outliving(lesson, shared))
        except NotAdmitted:
            continue
        new += 1
    standings = []
    for id, known in sorted(evidence.items()):
        there = shared.standing(id)
        if there is not None and not there.pinned and known != Evidence():
            standings.append((id, known.standing))
    shared.set_standings(standings)
    return new


def _outliving(lesson: Lesson, shared: MemoryStore) -> Lesson:
    """A lesson as it is kept: with its run as its writer, and superseding only what is there."""
    old = lesson.supersedes
    return msgspec.structs.replace(
        lesson,
        source=lesson.source or lesson.run,
        supersedes=old if old is not None and shared.get(old) is not None else None,
    )
