"""One view of a run, folded from its journal record by record: whatever a reader shows stands here.

It is bounded: counts, columns and offsets, never a sentence or an object for each entry. A new record costs the same
however long the journal is.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable

from moevolve.journal.costs import Spent
from moevolve.journal.growth import Growth, leaves_of
from moevolve.journal.guards import GuardCounts
from moevolve.journal.intervals import paired_gain
from moevolve.journal.kinds import FOLDS, SENTENCES, Said
from moevolve.journal.proposers import Accounts
from moevolve.journal.ratings import Ratings
from moevolve.journal.remembering import MemoryCounts
from moevolve.journal.scores import Gain, Point, Skill, independent
from moevolve.journal.text import line
from moevolve.journal.training import Losses, Practice
from moevolve.journal.variants import Variants
from moevolve.records import (
    Entry,
    Generalised,
    Level,
    Nulls,
    Recipe,
    Record,
    RunStarted,
    State,
    Status,
    Tally,
)

FADE = 0.4
"""What is left of older tries once a cycle begins or the champion changes: they describe another variant."""


def describe(record: Record) -> Said:
    """A record as one line of harmless text, and its tone."""
    return SENTENCES[type(record)](record)


def status_of(finished: bool, state: State | None, alive: bool) -> Status:
    """The run's status: a writer that died leaves it `stopped`, unless the journal's last record ended it; one that paused
    left on purpose.

    Args:
        finished: whether the journal holds the run's end.
        state: what the writer said last.
        alive: whether a process has the run open for writing.
    """
    said = None if state is None else state.status
    if alive and (said == "running" or (not finished and said in (None, "stopped"))):
        return "running"  # One that goes on beyond its end has not put that on record yet.
    if finished:
        return "finished"
    if alive and said is not None:
        return said
    return said if said in ("failed", "paused") else "stopped"


GUARDS, CHECKS = 100, 200
"""Most guards, and most checks of each, whose places are kept."""


class RunView:
    """A run as its journal tells it. `take` and `fold` are the ways in."""

    def __init__(self) -> None:
        self.entries = 0
        self.seconds = 0.0
        self.started: RunStarted | None = None
        self.planned: int | None = None
        """Cycles that the run means to do; None where minutes alone limit it."""
        self.finished = False
        self.extensions = 0
        """How often the run was given more cycles or minutes than it had."""
        self.champion = ""
        self.champion_history: deque[str] = deque(maxlen=10_000)
        """Champions in order, one entry for each time that one became it; the newest of very many."""
        self.cycle = 0
        """The cycle that began last."""
        self.cycles = 0
        """Cycles that have finished."""
        self.cycles_started = 0
        self.variants = Variants()
        self.undecided = array("i")
        """Program candidates proposed since the last choice; without a record of it their fate is settled here."""
        self.proposed: dict[Level, int] = {"weights": 0, "program": 0}
        self.decisions: dict[Level, list[int]] = {"weights": [0, 0], "program": [0, 0]}
        """Level -> [accepted, decided]."""
        self.promotions: list[tuple[int, Level]] = []
        self.changes = array("q")
        """Sequence numbers of the records that made another variant the champion."""
        self.opened = array("q")
        """Sequence numbers of the records that began a cycle."""
        self.took: dict[str, float] = {}
        """Kind of record -> seconds that lay before such records: where the time went."""
        self.gates = array("q")
        """Sequence numbers of the gate's decisions."""
        self.ablations = array("q")
        """Sequence numbers of the ablations of promoted weights."""
        self.error_spent: float | None = None
        """Bound on the probability that any promotion so far was false; None where the gate shares out no budget."""
        self.screened = 0
        self.nulls: Nulls | None = None
        """The newest champion beside the bare policy at its budget."""
        self.accounts = Accounts()
        """What proposers and operators came to."""
        self.rollbacks = 0
        self.curve: list[Point] = []
        self.outcomes: list[list[float | None]] = [[], []]
        """Scores of the sealed tasks, before and after."""
        self.skills: dict[str, Skill] = {}
        """The suite's leaves."""
        self.growth = Growth()
        self.generalised: dict[str, Generalised] = {}
        """Column -> its newest record."""
        self.sealed_accesses = 0
        self.asked = 0
        """Tasks of all evaluations, and those of them without an answer."""
        self.missing = 0
        self.guards: dict[str, GuardCounts] = {}
        self.checks: dict[str, deque[int]] = {}
        """Guard -> sequence numbers of its newest checks."""
        self.alarms = array("q")
        """Sequence numbers of the guards' alarms."""
        self.waiting: list[str] = []
        """Variants that passed the gate and wait for a person."""
        self.requests = 0
        """Number of the last request of a person that was taken up."""
        self.generated = 0
        self.trained = 0
        self.lessons = 0
        self.memory = MemoryCounts()
        self.recipe: Recipe | None = None
        self.loss: float | None = None
        self.losses = Losses()
        self.practice = Practice()
        self.spent = Spent()
        self.ratings = Ratings()

    def take(self, seq: int, record: Record, at: float) -> None:
        """Takes the next record; `at` is in seconds since the run's first entry."""
        self.entries = seq + 1
        kind = type(record)
        # A time that is none moves nothing.
        if self.seconds < at < math.inf:
            name = kind.__name__
            self.took[name] = self.took.get(name, 0.0) + at - self.seconds
            self.seconds = at
        FOLDS[kind](self, record, seq, at)

    def fold(self, entries: Iterable[Entry]) -> RunView:
        """Takes entries; returns the view."""
        for entry in entries:
            self.take(entry.seq, entry.record, entry.timing.at)
        return self

    def skill(self, path: str) -> Skill:
        """A leaf of the tree by its path, made harmless."""
        found = self.skills.get(path) or self.growth.skills.get(path) or self.growth.gone.get(path)
        if found is None:
            path = line(path)
            found = self.skills.setdefault(path, Skill(path))
        return found

    def count(self, tallies: Iterable[Tally]) -> None:
        """Adds tries of the champion with its program."""
        for tally in tallies:
            skill = self.skill(tally.skill)
            wins, tries = skill.tries.get(tally.level, (0.0, 0.0))
            skill.tries[tally.level] = (wins + tally.successes, tries + tally.attempts)

    def fade(self) -> None:
        """Lets tries count for less: the champion is another one."""
        for skill in leaves_of(self.skills.values(), self.growth):
            skill.tries = {level: (w * FADE, n * FADE) for level, (w, n) in skill.tries.items()}

    def note_levels(self) -> None:
        """Notes each skill's level the first time that there is one."""
        for skill in leaves_of(self.skills.values(), self.growth):
            if skill.first_level is None and skill.tries:
                skill.first_level = skill.level

    def crown(self, variant: str, seq: int) -> None:
        """Makes a variant the champion, by the record of this number."""
        self.champion = variant
        self.changes.append(seq)
        self.champion_history.append(variant)

    def check(self, guard: str, seq: int) -> None:
        """Notes where a guard's check stands."""
        if guard not in self.checks and len(self.checks) < GUARDS:
            self.checks[guard] = deque(maxlen=CHECKS)
        if guard in self.checks:
            self.checks[guard].append(seq)

    def close_generation(self) -> None:
        """Settles candidates whose choice is not on record, as the loop made it: the gate saw one, or none."""
        for row in self.undecided:
            fate = self.variants.fate(row)
            if fate == "screened":
                self.variants.settle(row, "not chosen")
            elif fate == "proposed":
                self.variants.settle(row, "not screened")
        del self.undecided[:]

    def point(self, split: str, *, newest: bool = False) -> Point | None:
        """The first or the newest score on a split; None while there is none, or as the newest only one."""
        first = next((point for point in self.curve if point.split == split), None)
        if not newest:
            return first
        last = next((point for point in reversed(self.curve) if point.split == split), None)
        return None if last is first else last

    @property
    def sealed_gain(self) -> Gain | None:
        """The gain on the sealed tasks: paired, or of two intervals where outcomes are not on record."""
        before, after = self.point("sealed"), self.point("sealed", newest=True)
        if before is None or after is None:
            return None
        first, last = self.outcomes
        if first and len(first) == len(last):
            found = paired_gain(first, last)
            return None if found is None else Gain(*found)
        return independent(before.score, after.score)

    @property
    def dev_gain(self) -> Gain | None:
        """The gain on the dev split, each score on fresh tasks."""
        before, after = self.point("dev"), self.point("dev", newest=True)
        return None if before is None or after is None else independent(before.score, after.score)
