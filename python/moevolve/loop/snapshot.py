"""What the loop must remember between two cycles, stored beside the journal at each cycle's end."""

from __future__ import annotations

import msgspec

from moevolve.gate.confirmed import BestLevel
from moevolve.gate.spending import AlphaSpending
from moevolve.guard.guard import GuardMemory
from moevolve.journal.archive import Variant
from moevolve.journal.store import RunStore
from moevolve.learning.buffer import Confirmed
from moevolve.memory.lessons import Writes
from moevolve.memory.shared import Given
from moevolve.memory.trust import Evidence, Rate
from moevolve.proposers.search import ProposalOutcome
from moevolve.records import Consolidated, Grown, Level

TABLE = "snapshot"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that passed the gate and waits for a person."""

    variant: str
    level: Level
    champion: str
    """What it was compared with: it may take no other's place."""
    best_levels: dict[str, BestLevel]
    """The best confirmed levels once it is the champion."""


class Snapshot(msgspec.Struct, kw_only=True):
    """The loop's whole state at a cycle boundary."""

    cycle: int = 0
    cursor: int = 0
    """Journal entries up to here."""
    champion: str = ""
    learner: str = ""
    """Weights that the next learning stage starts from: the champion's, or a candidate that was not discarded."""
    recipe_program: str | None = None
    """A proposed program whose `learn.py` the next learning stage tries."""
    variants: list[Variant] = []
    buffer: list[Confirmed] = []
    direct: list[tuple[str, int, float, float]] = []
    """Bare policy: (skill, level, successes, attempts), older counts faded."""
    program: list[tuple[str, int, float, float]] = []
    """The champion with its program, likewise."""
    outcomes: list[ProposalOutcome] = []
    tokens_generated: int = 0
    tokens_trained: int = 0
    lessons: int = 0
    writes: Writes = Writes()
    """What the cycle writes into memory, once this snapshot is on file."""
    evidence: dict[str, Evidence] = {}
    """Lesson -> what attempts told about it."""
    given: dict[str, Given] = {}
    """Lesson -> what the memory that outlives the run knows of it."""
    without: dict[str, Rate] = {}
    """Skill -> attempts without memory."""
    next_variant: int = 0
    spending: AlphaSpending = AlphaSpending()
    """The gate's error budget."""
    best_levels: dict[str, BestLevel] = {}
    """Skill -> its best confirmed level."""
    screened: dict[str, list[tuple[str, int, int]]] = {}
    """Program that passed the gate -> (skill, level, seed) of its screening, where G0 is asked for."""
    spent_tasks: list[int] = []
    """The gate's ledger of tasks of finite skills."""
    waiting: list[Waiting] = []
    """Candidates that passed the gate and wait for a person."""
    guards: GuardMemory = msgspec.field(default_factory=GuardMemory)
    turn: Level = "program"
    """In arm `alternate`, the level whose turn the next cycle is."""
    idle: int = 0
    """Cycles of that turn without a promotion of its level."""
    unablated: tuple[str, str] | None = None
    """Promoted weights whose parts have still to be scored: the variant, and the hash of the program it came with."""
    requests: int = 0
    """Requests made of the policy."""
    imported: list[str] = []
    """Hashes of programs that a person put forward, for the next generation."""
    growth: list[Grown] = []
    """Changes of the skill tree in force, in order."""
    growth_declined: list[Grown] = []
    """Changes that were tried and not added."""
    growth_taken_back: list[Grown] = []
    """Changes that a person took back: they are not proposed again."""
    growth_direct: list[tuple[str, int, float, float]] = []
    """As `direct`, of what the tree grew."""
    growth_program: list[tuple[str, int, float, float]] = []
    """As `program`, of what the tree grew."""
    next_growth: int = 1
    merges: list[Consolidated] = []
    """Lessons that were made one, in order."""
    merges_declined: list[Consolidated] = []
    merges_taken_back: list[Consolidated] = []
    """What a person took back: it is not proposed again."""
    next_merge: int = 1
    first_score: tuple[int, int] = (0, 0)
    """Tokens and requests that the first sealed score took."""


def save(snapshot: Snapshot) -> tuple[str, str, bytes]:
    """The table entry that goes into the same commit as the cycle's last record."""
    return TABLE, f"{snapshot.cycle:06d}", msgspec.msgpack.encode(snapshot)


def first(store: RunStore) -> Snapshot | None:
    """The snapshot before the first cycle, or None where there is none yet."""
    data = store.get(TABLE, f"{0:06d}")
    return None if data is None else msgspec.msgpack.decode(data, type=Snapshot)


def latest(store: RunStore) -> Snapshot | None:
    """The newest snapshot on file, or None before the first cycle began."""
    rows = store.scan(TABLE)
    return msgspec.msgpack.decode(rows[-1][1], type=Snapshot) if rows else None
