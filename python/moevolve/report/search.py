"""Which proposers and operators earned what they cost, in figures and as lines of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from moevolve.journal.figures import amount, counted, signed
from moevolve.journal.proposers import Account, earned
from moevolve.journal.text import line

MOST = 12
"""Operators that are listed, the best ones."""
LONGEST = 64


class EarnedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody's candidates came to."""

    name: str
    made: int
    screened: int
    passed: int
    promoted: int
    gain: float
    """Sum of the screening gains of those that passed."""
    repeats: int = 0
    broken: int = 0
    requests: int = 0
    tokens: int = 0


def figures(accounts: Mapping[str, Account]) -> list[EarnedFigures]:
    """The accounts of proposers or operators, the best first."""
    return [
        EarnedFigures(
            name=name,
            made=account.made,
            screened=account.screened,
            passed=account.passed,
            promoted=account.promoted,
            gain=round(account.gain, 4),
            repeats=account.repeats,
            broken=account.broken,
            requests=account.requests,
            tokens=account.tokens,
        )
        for name, account in earned(accounts)
    ]


def lines(proposers: Sequence[EarnedFigures], operators: Sequence[EarnedFigures]) -> list[str]:
    """Two lines: who proposed with what success at what cost, and by which operators; none where nothing was proposed."""
    found = []
    if any(each.made or each.requests for each in proposers):
        found.append("Proposers: " + "; ".join(map(_proposer, proposers)))
    if operators:
        shown = [_operator(each) for each in operators[:MOST]]
        rest = len(operators) - MOST
        found.append("Operators: " + ", ".join([*shown, *([f"{rest} more"] if rest > 0 else [])]))
    return found


def _proposer(each: EarnedFigures) -> str:
    parts = [
        f"{line(each.name, LONGEST)} {each.promoted:,} promoted, {each.passed:,} of {each.screened:,} passed",
        f"{signed(each.gain)} in the screening",
    ]
    parts += [f"{each.broken:,} broken"] if each.broken else []
    parts += [f"{each.repeats:,} repeated"] if each.repeats else []
    parts.append(f"{counted(each.requests, 'request')}, {amount(each.tokens)} tokens")
    return ", ".join(parts)


def _operator(each: EarnedFigures) -> str:
    promoted = f", {each.promoted:,} promoted" if each.promoted else ""
    return f"{line(each.name, LONGEST)} {each.passed:,}/{each.screened:,} ({signed(each.gain)}{promoted})"
