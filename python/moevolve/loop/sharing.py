"""A run and the memory that outlives it: taken over before the first score, given back after the last."""

from __future__ import annotations

from pathlib import Path

from moevolve.journal.lessons import MemoryStore
from moevolve.loop import snapshot as snapshots
from moevolve.loop.context import RunContext
from moevolve.memory import shared
from moevolve.memory.lessons import Writes
from moevolve.records import Outlived, SharedMemory


def begin(run: RunContext) -> SharedMemory | None:
    """Copies what `[memory] shared` holds into the run's memory; returns what goes on record, None without one."""
    if run.config.memory.shared is None or not run.lessons.on:
        return None
    run.state.writes = _first(run, Path(run.config.memory.shared))
    run.state.given = shared.began(run.state.writes)
    run.state.evidence = {lesson: known.run for lesson, known in run.state.given.items()}
    run.lessons.write(run.state.writes)
    run.lessons.open_cycle(1)
    return shared.described(run.state.writes)


def _first(run: RunContext, folder: Path) -> Writes:
    """What the run began with, where it has begun before, or what is there now."""
    if run.recorded is not None:
        first = snapshots.first(run.recorded)
        return first.writes if first is not None else Writes()
    if run.lessons.store.count():
        # Killed before its first snapshot.
        return shared.taken(run.lessons.store, run.run)
    with MemoryStore(folder) as store:
        return shared.taken(store, run.run)


def helped(run: RunContext) -> Outlived | None:
    """The record of the lessons that outlive the run; None where there is no memory for them, or a coin judged."""
    if run.config.memory.shared is None or not run.lessons.on or not run.arm.verdicts:
        return None
    names = [lesson for lesson, evidence in sorted(run.state.evidence.items()) if evidence.helped]
    return Outlived(cycle=run.state.cycle, lessons=names)


def give(run: RunContext, outlived: Outlived | None) -> None:
    """Writes what is on record into the memory that outlives the run; a replay writes nothing."""
    if outlived is None or run.config.memory.shared is None or run.recorded is not None:
        return
    with MemoryStore(Path(run.config.memory.shared)) as store:
        run.state.given = shared.give(
            run.lessons.store, store, run.state.given, run.state.evidence, outlived.lessons
        )
