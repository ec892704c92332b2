"""Lessons that were made one, taken back: in a run that goes on by its snapshot, in an ended one in its memory as well."""

from __future__ import annotations

from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.store import RunStore
from moevolve.loop.snapshot import Snapshot
from moevolve.memory.consolidation import built_on, restored
from moevolve.memory.lessons import Writes


def take_back(state: Snapshot, name: str) -> bool:
    """Takes a merge back, and with it those that were made of its lesson; whether it was in force."""
    gone = built_on(state.merges, name)
    if not gone:
        return False
    state.merges = [each for each in state.merges if each not in gone]
    state.merges_taken_back += [each for each in gone if each.merge == name]
    standings = dict(state.writes.standings) | restored(gone, state.evidence)
    state.writes = Writes(state.writes.lessons, list(standings.items()))
    return True


def write_back(store: RunStore, state: Snapshot) -> None:
    """Writes into an ended run's memory how lessons stand by its snapshot."""
    with MemoryStore(memory_folder(store.path)) as memory:
        memory.set_standings(state.writes.standings)
