"""When a run ends: its limits, and what it was given beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from moevolve.config import Config
from moevolve.config.files import typed
from moevolve.errors import UsageError
from moevolve.journal.control import Inbox, Request
from moevolve.journal.store import RunStore
from moevolve.loop import merges
from moevolve.loop import snapshot as snapshots
from moevolve.loop.snapshot import Snapshot
from moevolve.memory.consolidation import built_on
from moevolve.records import (
    Controlled,
    CycleFinished,
    CycleStarted,
    Entry,
    Guarded,
    Imported,
    Record,
    RunExtended,
    RunFinished,
    Timing,
)
from moevolve.skills.growth import rolled_back

TABLE = "extension"
"""Extensions that were asked for and are not on record yet, in order."""


class StopRule:
    """Says before each cycle whether there is time for it: a number of cycles, a time limit, or both.

    The clock only ends a run, it decides nothing inside one; how many cycles there were is on record.
    """

    def __init__(self, cycles: int | None, minutes: float | None) -> None:
        self.cycles = cycles
        self.minutes = minutes
        self._longest = 0.0

    def seen(self, seconds: float) -> None:
        """Notes how long a cycle took."""
        self._longest = max(self._longest, seconds)

    def another(self, done: int, seconds: float) -> bool:
        """Whether to begin a cycle after `done` cycles and `seconds`."""
        if self.cycles is not None and done >= self.cycles:
            return False
        return self.minutes is None or seconds + self._longest * 1.15 <= self.minutes * 60

    def share(self, done: float, seconds: float) -> float:
        """Share of the run that is behind after `done` cycles and `seconds`."""
        shares = [done / self.cycles] if self.cycles else []
        if self.minutes:
            shares.append(seconds / (self.minutes * 60))
        return min(1.0, max(shares, default=0.0))


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """More cycles, more minutes, or both: as with a run's first limits, one alone takes the other away."""

    cycles: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.cycles is None and self.minutes is None:
            raise UsageError("an extension gives a run more cycles, more minutes, or both")
        if self.cycles is not None and type(self.cycles) is not int:
            raise UsageError(f"{self.cycles!r} more cycles: give a whole number")
        if self.minutes is not None and type(self.minutes) not in (int, float):
            raise UsageError(f"{self.minutes!r} more minutes: give a number")
        if self.cycles is not None and self.cycles < 1:
            raise UsageError(f"{self.cycles} more cycles: give at least 1")
        if self.minutes is not None and not 0 < self.minutes <= 10**7:
            raise UsageError(f"{self.minutes:g} more minutes: give more than 0, and at most 10^7")


def in_force(config: Config, store: RunStore) -> StopRule:
    """The limits of a run on record: those of its newest extension, or of its configuration."""
    if _ending(store):
        # Its last evaluation has begun: no clock may decide on a further cycle any more.
        return StopRule(_newest(store).cycle, None)
    rule, began = StopRule(config.cycles, config.minutes), 0.0
    taken: list[float] = []
    for _, record, at in store.records():
        if isinstance(record, RunExtended):
            minutes = None if record.more_minutes is None else at / 60 + record.more_minutes
            rule = StopRule(record.cycles, minutes)
        elif isinstance(record, CycleStarted):
            began = at
        elif isinstance(record, CycleFinished):
            taken.append(at - began)
    # Whoever goes on knows how long a cycle takes.
    rule.seen(max(taken, default=0.0))
    return rule


def ask(store: RunStore, extension: Extension) -> None:
    """Keeps an extension until the run stands between two cycles, so that no interruption loses it.

    Raises:
        UsageError: the run ended at its spending limit, which an extension does not raise.
    """
    if _cut(store):
        raise UsageError(
            f"{store.path} ended at its spending limit, which more cycles do not raise: start a new run with its "
            f"settings and a higher limit, `moevolve run {typed(store.path / 'run.toml')} --set ...`"
        )
    store.put(TABLE, f"{len(store.scan(TABLE)):06d}", msgspec.msgpack.encode(extension))


def asked(store: RunStore) -> list[Extension]:
    """Extensions that are not on record yet, in order."""
    return [msgspec.msgpack.decode(row, type=Extension) for _, row in store.scan(TABLE)]


def forget_endings(store: RunStore) -> None:
    """Takes back requests to pause or stop that came too late for a run that has ended: they were about what is over."""
    if ending_of(store) is None:
        return
    taken = (record.request for _, record, _ in store.records() if isinstance(record, Controlled | Imported))
    Inbox(store.path).withdraw(("pause", "stop"), max(taken, default=0))


def boundary(store: RunStore) -> tuple[StopRule, bool] | None:
    """What takes a run to where an extension can go on record, and whether it ends there; None where it stands there.

    That is between two cycles, or after its end.
    """
    state = snapshots.latest(store)
    if state is None:
        return StopRule(0, None), False
    after = _after_boundary(store)
    if not after or isinstance(after[-1], RunFinished):
        return None
    begun = isinstance(after[0], CycleStarted)
    stopped = any(isinstance(record, Controlled) and record.command == "stop" for record in after)
    return StopRule(state.cycle + begun, None), stopped or not begun


def withdraw(store: RunStore) -> None:
    """Forgets extensions that are not on record yet."""
    store.puts([(TABLE, key, None) for key, _ in store.scan(TABLE)])


def grant(store: RunStore, config: Config) -> list[Entry]:
    """Puts what was asked for on record; the run stands between two cycles, or has finished."""
    cycle, records, planned = _begun(store), list[Record](), in_force(config, store).cycles
    if ending_of(store) is not None:
        planned = cycle
    for extension in asked(store):
        planned = (
            None if extension.cycles is None else (cycle if planned is None else planned) + extension.cycles
        )
        records.append(
            RunExtended(
                cycle=cycle, more_cycles=extension.cycles, more_minutes=extension.minutes, cycles=planned
            )
        )
    return extend(store, records)


def extend(store: RunStore, records: list[Record]) -> list[Entry]:
    """Appends records of extensions, in one commit with the snapshot that the run goes on from.

    A cycle that a person's stop cut short is not done again: what it tried and promoted is on record and stays.
    """
    state, before = _newest(store), len(store)
    state.cycle = _begun(store)
    state.cursor = before + len(records)
    done = [(TABLE, key, None) for key, _ in store.scan(TABLE)]
    timing = Timing(at=store.entries(before - 1)[0].timing.at)
    store.batch(records, timing, puts=[snapshots.save(state), *done])
    return store.entries(before)


def ending_of(store: RunStore) -> RunFinished | None:
    """The record that ended a run; None of one that has not ended. What the tree grew may be taken back after it."""
    for seq in reversed(range(len(store))):
        record = store.entries(seq, 1)[0].record
        if isinstance(record, RunFinished):
            return record
        if not _takes_back(record):
            return None
    return None


def take_back(store: RunStore, change: str) -> list[Entry]:
    """Takes back a change of an ended run's tree or memory: a record after its end, with the snapshot that follows."""
    state = _newest(store)
    there = rolled_back(state.growth, change) is not None or bool(built_on(state.merges, change))
    numbers = (record.request for _, record, _ in store.records() if isinstance(record, Controlled))
    number = Inbox(store.path).put(Request(command="rollback", variant=change), max(numbers, default=0))
    return taken_back(
        store,
        Controlled(
            cycle=state.cycle,
            request=number,
            command="rollback",
            variant=change,
            done=there,
            champion=state.champion,
            detail="" if there else f"{change} is no change of the skill tree or of memory in force",
        ),
    )


def taken_back(store: RunStore, record: Controlled) -> list[Entry]:
    """Puts a change that is taken back after a run's end on record."""
    state, before = _newest(store), len(store)
    stay = rolled_back(state.growth, record.variant)
    if stay is not None:
        state.growth_taken_back += [each for each in state.growth if each.growth == record.variant]
        state.growth = stay
    merged = stay is None and merges.take_back(state, record.variant)
    state.cursor = before + 1
    timing = Timing(at=store.entries(before - 1)[0].timing.at)
    store.batch([record], timing, puts=[snapshots.save(state)])
    if merged:
        merges.write_back(store, state)
    return store.entries(before)


def _takes_back(record: Record) -> bool:
    return isinstance(record, Controlled) and record.command == "rollback"


class Part(NamedTuple):
    """What a run did from its start, or from an extension, to the next extension or its end."""

    extension: RunExtended | None
    """What it began with."""
    cycles: int
    """Cycles of the whole run at its end."""
    finished: bool
    taken_back: tuple[Controlled, ...] = ()
    """Changes of the skill tree that were taken back after its end."""


def parts(records: Sequence[Record]) -> list[Part]:
    """A run's records, cut at its extensions. A cycle that was not finished belongs to a part that ended the run only."""
    found: list[Part] = []
    extension: RunExtended | None = None
    started = finished = 0
    ended, taken = False, list[Controlled]()
    for index, record in enumerate(records):
        if isinstance(record, CycleStarted):
            started = record.cycle
        elif isinstance(record, CycleFinished | RunExtended):
            finished = record.cycle
        elif isinstance(record, RunFinished):
            ended = True
        elif ended and isinstance(record, Controlled):
            taken.append(record)
        last = index + 1 == len(records)
        if last or isinstance(records[index + 1], RunExtended):
            found.append(Part(extension, started if ended else finished, ended, tuple(taken)))
            extension = None if last else records[index + 1]  # type: ignore[assignment]
            ended, taken = False, []
    return found


def _begun(store: RunStore) -> int:
    """The last cycle that began."""
    return max(
        (record.cycle for _, record, _ in store.records() if isinstance(record, CycleStarted)), default=0
    )


def _newest(store: RunStore) -> Snapshot:
    state = snapshots.latest(store)
    assert state is not None, "a run between two cycles has a snapshot"
    return state


def _after_boundary(store: RunStore) -> list[Record]:
    state = snapshots.latest(store)
    return [] if state is None else [entry.record for entry in store.entries(state.cursor)]


def _ending(store: RunStore) -> bool:
    """Whether the last evaluation has begun, and is not on record whole."""
    after = _after_boundary(store)
    return bool(after) and not isinstance(after[0], CycleStarted) and not isinstance(after[-1], RunFinished)


def _cut(store: RunStore) -> bool:
    """Whether a spending limit has ended the run, or is about to."""
    for entry in reversed(store.entries()):
        record = entry.record
        if isinstance(record, Guarded) and record.guard == "budget" and record.vetoed > 0:
            return True
        if isinstance(record, CycleFinished | RunExtended):
            return False
    return False
