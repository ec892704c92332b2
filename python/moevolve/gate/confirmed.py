"""Best confirmed levels: for every skill the variant that no promoted one may fall behind.

A champion may lose a little at a skill, within the margin. Were the next candidate compared with that champion alone, it
could lose as much again, and so on. So a candidate is also compared with the skill's holder, on tasks of that skill. A
new champion becomes the holder where the evidence of the decision that promoted it is for a gain. Ties are not: changes
too small to be seen in one decision would add up behind them. Nor does it take proof: a level gained and not held could
be lost again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from moevolve.gate.betting import PairedGate
from moevolve.gate.capital import log_capital

TAKEOVER = 0.4
"""Log of the e-value for "better than the holder" from which a new champion holds a skill's level: above that of ties, 0."""


class BestLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A skill's best confirmed level, part of the snapshot."""

    variant: str
    level: float | None = None
    """The variant's mean score over the `n` gate tasks that confirmed it; None for a run's first variant."""
    n: int = 0


def begin(skills: Iterable[str], variant: str) -> dict[str, BestLevel]:
    """A run's first levels: its first variant's, whatever they are."""
    return {skill: BestLevel(variant=variant) for skill in skills}


def elsewhere(levels: Mapping[str, BestLevel], champion: str) -> dict[str, str]:
    """Skill -> the variant that holds its level, where that is not the champion: what `PairedGate(best=...)` takes."""
    return {skill: held.variant for skill, held in sorted(levels.items()) if held.variant != champion}


def promoted(
    levels: Mapping[str, BestLevel], gate: PairedGate, candidate: str, champion: str
) -> dict[str, BestLevel]:
    """The levels after a promotion of `candidate` over `champion` by `gate`."""
    after = dict(levels)
    for skill, held in levels.items():
        if log_capital(gate.counts(skill, best=held.variant != champion)) >= TAKEOVER:
            level, n = gate.score(skill)
            after[skill] = BestLevel(variant=candidate, level=level, n=n)
    return after
