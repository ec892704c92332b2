"""The archive: a graph of all variants that a run has made, rejected ones included.

Nothing is ever taken out. Stepping stones that scored low at first have led to the best variants of other
systems (Darwin Goedel Machine, arXiv 2505.22954: 50 % with its archive, 23 % without).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec

from moevolve.errors import UsageError


class Variant(msgspec.Struct, frozen=True):
    """One individual: weights and program by content hash, and where it came from."""

    id: str
    parents: list[str]
    """The variant it was made from first, then those that its other half comes from; empty for the first."""
    cycle: int
    weights: str
    program: str
    level: str
    """What its edit changed: `weights`, `program`, or `seed` for the first."""
    operator: str
    summary: str
    score: float | None
    """Its own screening score, a cheap estimate on train tasks; None where it was not screened."""
    status: str
    """`candidate` before its gate, then `champion`, `kept`, `rejected`, `waiting` for a person, or `vetoed` by a guard."""
    step: int | None = None
    """The step of selection that its parent was chosen in, counted from 0 over the whole run; None for the first and for
    children by weights."""
    wins: float = 0.0
    """Train tasks that screenings saw it solve, its own and those that it was the champion of."""
    losses: float = 0.0
    """Train tasks that they saw it fail."""
    skills: dict[str, float] = {}
    """Its newest screening score by skill."""


class Archive:
    """A graph of variants, in the order in which they were added; a tree by first parents."""

    def __init__(self) -> None:
        self._variants: dict[str, Variant] = {}
        self._children: dict[str, list[str]] = {}

    def add(self, variant: Variant) -> Variant:
        """Adds a node and returns it.

        Raises:
            UsageError: the id is taken, or a parent is not here.
        """
        if variant.id in self._variants:
            raise UsageError(f"variant {variant.id} is in the archive already")
        for index, parent in enumerate(variant.parents):
            below = self._children[self[parent].id]
            if index == 0:
                below.append(variant.id)
        self._variants[variant.id] = variant
        self._children[variant.id] = []
        return variant

    def update(self, id: str, **changes: Any) -> Variant:
        """Replaces fields of a node (not its id or parents) and returns it.

        Raises:
            UsageError: no such variant, or a field that cannot change.
        """
        if fixed := {"id", "parents"} & changes.keys():
            raise UsageError(f"variant {id}: {', '.join(sorted(fixed))} cannot change")
        self._variants[id] = msgspec.structs.replace(self[id], **changes)
        return self._variants[id]

    def __getitem__(self, id: str) -> Variant:
        """The variant called `id`.

        Raises:
            UsageError: there is none; names the nearest.
        """
        if id not in self._variants:
            close = difflib.get_close_matches(id, self._variants, n=1, cutoff=0.0)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"no variant {id!r} in the archive{hint}")
        return self._variants[id]

    def __contains__(self, id: object) -> bool:
        return id in self._variants

    def __iter__(self) -> Iterator[Variant]:
        return iter(self._variants.values())

    def __len__(self) -> int:
        return len(self._variants)

    def children(self, id: str) -> list[Variant]:
        """Variants whose first parent this is, oldest first."""
        return [self._variants[child] for child in self._children[self[id].id]]

    def lineage(self, id: str) -> list[Variant]:
        """The variant and all that its weights and its program come from, oldest first."""
        line = {self[id].id}
        waiting = [id]
        while waiting:
            fresh = [parent for parent in self[waiting.pop()].parents if parent not in line]
            line.update(fresh)
            waiting += fresh
        return [variant for variant in self if variant.id in line]

    @property
    def champion(self) -> Variant | None:
        """The newest variant of that status."""
        return next((v for v in reversed(self._variants.values()) if v.status == "champion"), None)
