"""A program's way of improving by itself: the files that it is made of, and what its generations came to in a run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from moevolve.agents.genome import SELECTOR, Genome
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.loop.variants import genome_in
from moevolve.proposers.prompting import FOLDER
from moevolve.records import Chosen, Proposed, Screened, Selected, VariantAdded
from moevolve.selection.clade import transfer
from moevolve.selection.replayed import recorded


class Generations(msgspec.Struct, frozen=True, kw_only=True):
    """What an improver came to in a run's generations, each from one parent."""

    gains: list[float]
    """imp@k of each: the best candidate's gain over the champion, corrected for having been chosen; 0 where none gained."""
    candidates: float
    """k, on average."""
    screened: int
    passed: int


def files_of(genome: Genome) -> dict[str, str]:
    """The files that say how a program improves: `improve.py`, prompts for a model that writes, `select_parent.py`."""
    return {
        path: text
        for path, text in genome.files.items()
        if path in ("improve.py", SELECTOR) or path.startswith(FOLDER)
    }


def best(store: RunStore) -> str:
    """The variant whose improver to take elsewhere: its descendants gained most, less by .6 for each step of distance.

    Raises:
        UsageError: no variant has three descendants with a score.
    """
    node = transfer(recorded(entry.record for entry in store.entries()))
    if node is None:
        raise UsageError(
            f"no variant of {store.path} has three scored descendants: name one with --variant, such as champion"
        )
    return node.id


def generations(store: RunStore, improver: Mapping[str, str]) -> Generations:
    """What the generations whose parent had exactly this improver came to.

    Args:
        store: the run.
        improver: its files; see `files_of`.
    """
    programs: dict[str, str] = {}
    same: dict[str, bool] = {}
    gains: list[float] = []
    asked = screened = passed = 0
    ours = False
    made: set[str] = set()
    for entry in store.entries():
        record = entry.record
        match record:
            case VariantAdded():
                programs[record.variant] = record.program
            case Selected(action="expand"):
                program = programs.get(record.variant, "")
                if program not in same:
                    same[program] = bool(program) and files_of(genome_in(store, program)) == improver
                ours, made = same[program], set()
            case Proposed(level="program", proposer="improver" | "model" | "") if ours:
                made.add(record.variant)
            case Screened() if record.variant in made:
                screened += 1
                passed += record.passed
            case Chosen() if ours:
                if made:
                    gains.append(max(0.0, record.gain or 0.0) if record.chosen in made else 0.0)
                    asked += len(made)
                ours = False
            case _:
                pass
    return Generations(gains=gains, candidates=asked / max(1, len(gains)), screened=screened, passed=passed)
