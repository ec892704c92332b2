"""Which proposers and operators earned what they cost, in figures and as lines of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from moevolve.journal.figures import amount, counted, number, signed
from moevolve.journal.proposers import Account, earned
from moevolve.journal.reader import RunReader
from moevolve.journal.text import line
from moevolve.report import sources
from moevolve.report.score import exact, short

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
    silent: int = 0
    """Candidates that never came, of a proposer that failed or had nothing to offer."""
    requests: int = 0
    tokens: int = 0
    attempts: int = 0
    """On train tasks, that screening its candidates took."""


class AcceptedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Edits of one kind that were promoted, or that what was promoted is built on."""

    operator: str
    edits: int
    files: list[str]
    """That they changed; empty where the sources are not on file."""


def accepted(reader: RunReader) -> list[AcceptedFigures]:
    """Edits of programs that were promoted, with those of their ancestors, by operator, the most frequent first."""
    variants = reader.view.variants
    rows: set[int] = set()
    for row in range(len(variants)):
        if row not in rows and variants.fate(row) == "promoted":
            rows.update(variants.ancestry(row))
    found: dict[str, tuple[int, set[str]]] = {}
    for row in sorted(rows):
        parents = variants.parents(row)
        if variants.level(row) == "program" and parents:
            count, files = found.get(variants.operator(row), (0, set()))
            changed = sources.changed(reader, parents[0], row)
            found[variants.operator(row)] = count + 1, files | changed
    return [
        AcceptedFigures(operator=operator, edits=count, files=sorted(files))
        for operator, (count, files) in sorted(found.items(), key=lambda each: (-each[1][0], each[0]))
    ]


def figures(accounts: Mapping[str, Account], *, rated: bool = False) -> list[EarnedFigures]:
    """The accounts of proposers or operators, the best first; `rated` where gains are of an evaluator's numbers."""
    return [
        EarnedFigures(
            name=name,
            made=account.made,
            screened=account.screened,
            passed=account.passed,
            promoted=account.promoted,
            gain=exact(account.gain) if rated else short(account.gain),
            repeats=account.repeats,
            broken=account.broken,
            silent=account.silent,
            requests=account.requests,
            tokens=account.tokens,
            attempts=account.attempts,
        )
        for name, account in earned(accounts)
    ]


def lines(
    proposers: Sequence[EarnedFigures],
    operators: Sequence[EarnedFigures],
    accepted: Sequence[AcceptedFigures] = (),
    *,
    rated: bool = False,
) -> list[str]:
    """Lines: who proposed with what success at what cost, which operators earned theirs, which did not, and what kinds of
    edits were accepted, in which files; none where nothing was proposed. Whoever had a candidate that passed the
    screening with a gain earned something."""
    found, gain = list[str](), _rated if rated else signed
    if any(each.made or each.requests or each.silent for each in proposers):
        found.append("Proposers: " + "; ".join(_proposer(each, gain) for each in proposers))
    earned = [each for each in operators if each.promoted or each.gain > 0]
    idle = [each for each in operators if each not in earned and each.screened]
    idle.sort(key=lambda each: (-each.attempts, each.name))
    for head, group in (("Operators that earned their cost", earned), ("Operators that did not", idle)):
        shown = [
            *(_operator(each, gain) for each in group[:MOST]),
            *([f"{len(group) - MOST} more"] if group[MOST:] else []),
        ]
        found += [f"{head}: " + "; ".join(shown)] if group else []
    if accepted:
        shown = [
            *map(_accepted, accepted[:MOST]),
            *([f"{len(accepted) - MOST} more"] if accepted[MOST:] else []),
        ]
        found.append(f"Accepted edits, of {counted(len(accepted), 'kind')}: " + "; ".join(shown))
    return found


def _accepted(each: AcceptedFigures) -> str:
    files = ", ".join(line(file, LONGEST) for file in each.files)
    return f"{line(each.operator, LONGEST)} {each.edits:,}" + (f" in {files}" if files else "")


def _proposer(each: EarnedFigures, gain: Callable[[float], str]) -> str:
    parts = [
        f"{line(each.name, LONGEST)} {each.promoted:,} promoted, {each.passed:,} of {each.screened:,} passed",
        f"{gain(each.gain)} in the screening",
    ]
    parts += [f"{each.broken:,} broken"] if each.broken else []
    parts += [f"{each.repeats:,} repeated"] if each.repeats else []
    parts += [f"{each.silent:,} never delivered"] if each.silent else []
    cost = [f"{counted(each.requests, 'request')}, {amount(each.tokens)} tokens"]
    cost += [f"{counted(each.attempts, 'attempt')} of screening"] if each.attempts else []
    share = (
        f", {amount(each.tokens // each.promoted)} tokens a promotion"
        if each.promoted and each.tokens
        else ""
    )
    return f"{', '.join(parts)}, for {' and '.join(cost)}{share}"


def _operator(each: EarnedFigures, gain: Callable[[float], str]) -> str:
    parts = [f"{line(each.name, LONGEST)} {each.passed:,} of {each.screened:,} passed"]
    parts += [gain(each.gain)] if each.gain else []
    parts += [f"{each.promoted:,} promoted"] if each.promoted else []
    parts += [f"for {counted(each.attempts, 'attempt')}"] if each.attempts else []
    return ", ".join(parts)


def _rated(gain: float) -> str:
    """A gain in an evaluator's numbers."""
    return number(gain, "+.6g")
