"""What the loop must remember between two cycles, stored beside the journal at each cycle's end."""

from __future__ import annotations

import msgspec

from moevolve.gate.confirmed import BestLevel
from moevolve.gate.spending import AlphaSpending
from moevolve.journal.archive import Variant
from moevolve.journal.store import RunStore
from moevolve.learning.buffer import Confirmed
from moevolve.proposers.search import ProposalOutcome

TABLE = "snapshot"


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
    next_variant: int = 0
    spending: AlphaSpending = AlphaSpending()
    """The gate's error budget."""
    best_levels: dict[str, BestLevel] = {}
    """Skill -> its best confirmed level."""
    spent_tasks: list[int] = []
    """The gate's ledger of tasks of finite skills."""


def save(snapshot: Snapshot) -> tuple[str, str, bytes]:
    """The table entry that goes into the same commit as the cycle's last record."""
    return TABLE, f"{snapshot.cycle:06d}", msgspec.msgpack.encode(snapshot)


def latest(store: RunStore) -> Snapshot | None:
    """The newest snapshot on file, or None before the first cycle began."""
    rows = store.scan(TABLE)
    return msgspec.msgpack.decode(rows[-1][1], type=Snapshot) if rows else None
