"""What separates the tasks that fail from those that succeed: features of a task's payload, and the best of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from moevolve.errors import UsageError

Kind = Literal["length", "repeats", "variety", "character", "carry", "alike"]

NAMES: dict[Kind, tuple[str, str]] = {
    "length": ("long", "short"),
    "repeats": ("repeats", "no_repeats"),
    "variety": ("varied", "plain"),
    "carry": ("carry", "no_carry"),
    "alike": ("alike", "unlike"),
}
"""What tasks with a feature are called, and those without it."""
SHARE = 0.15
"""Least share of the tasks on either side of a feature."""
_NUMBERS = re.compile(r"(\d+)([+,-])(\d+)")
_NAME = re.compile(r"[a-z0-9]")


class Feature(msgspec.Struct, frozen=True):
    """A property of a payload.

    Attributes:
        kind: `length` and `variety` (distinct characters) of at least `least`; `repeats`, two equal neighbours;
            `character`, it holds that character; of two numbers `carry`, a column that carries or borrows, and `alike`,
            equally long and with the same first digit.
        least: of `length` and `variety`.
        character: of `character`.
    """

    kind: Kind
    least: int = 0
    character: str = ""

    def holds(self, payload: str) -> bool:
        """Whether a payload has it."""
        match self.kind:
            case "length":
                return len(payload) >= self.least
            case "variety":
                return len(set(payload)) >= self.least
            case "repeats":
                return any(a == b for a, b in zip(payload, payload[1:], strict=False))
            case "character":
                return self.character in payload
        found = _NUMBERS.fullmatch(payload)
        if found is None:
            return False
        first, sign, second = found.groups()
        if self.kind == "alike":
            return len(first) == len(second) and first[0] == second[0]
        columns = zip(reversed(first), reversed(second), strict=False)
        return any(int(a) + int(b) > 9 if sign == "+" else int(a) < int(b) for a, b in columns)

    @property
    def sides(self) -> tuple[str, str]:
        """What the tasks with it are called in a path, and those without it."""
        if self.kind == "character":
            return f"with_{self.character}", f"without_{self.character}"
        return NAMES[self.kind]

    def __str__(self) -> str:
        """`length>=9`, `character=x`, `carry`; `feature` reads it."""
        if self.kind in ("length", "variety"):
            return f"{self.kind}>={self.least}"
        return f"character={self.character}" if self.kind == "character" else self.kind


def feature(text: str) -> Feature:
    """The feature that `str` wrote.

    Raises:
        UsageError: it wrote no such text.
    """
    kind, _, value = re.sub(">=|=", " ", text, count=1).partition(" ")
    found: Feature | None = None
    match kind:
        case "length" | "variety":
            found = Feature(kind, least=int(value)) if value.isdecimal() else None
        case "character":
            found = Feature(kind, character=value) if len(value) == 1 else None
        case "repeats" | "carry" | "alike":
            found = Feature(kind)
    if found is None or str(found) != text:
        raise UsageError(f"{text!r} names no feature of a task")
    return found


class Seen(msgspec.Struct, frozen=True):
    """An attempt as a split looks at it."""

    payload: str
    level: int
    success: bool


class Separation(msgspec.Struct, frozen=True):
    """How well a feature separates failures."""

    feature: Feature
    difference: float
    """Success without the feature less that with it, at equal levels; of `length` over all levels."""
    evidence: float
    """The difference in standard errors."""


def separations(attempts: Sequence[Seen]) -> list[Separation]:
    """Features with enough tasks on either side, those that separate failures best first."""
    found = [
        made for each in candidates([a.payload for a in attempts]) if (made := _separation(each, attempts))
    ]
    return sorted(found, key=lambda each: (-abs(each.evidence), str(each.feature)))


def candidates(payloads: Sequence[str]) -> Iterator[Feature]:
    """Features that may tell such payloads apart."""
    yield from (Feature("repeats"), Feature("carry"), Feature("alike"))
    for kind, sizes in (
        ("length", sorted(map(len, payloads))),
        ("variety", sorted(len(set(payload)) for payload in payloads)),
    ):
        if sizes:
            yield Feature(kind, least=sizes[len(sizes) // 2])  # type: ignore[arg-type]
    counts = Counter(character for payload in payloads for character in set(payload))
    for character in sorted(counts):
        if _NAME.fullmatch(character):
            yield Feature("character", character=character)


def _separation(which: Feature, attempts: Sequence[Seen]) -> Separation | None:
    """The difference between both sides, level by level where levels have both; None where a side has too few."""
    sides: dict[int, list[list[bool]]] = {}
    for each in attempts:
        # Length is what levels are made of, so that no level has both sides of it.
        stratum = 0 if which.kind == "length" else each.level
        sides.setdefault(stratum, [[], []])[which.holds(each.payload)].append(each.success)
    both = [(without, having) for without, having in sides.values() if without and having]
    n = [sum(len(pair[side]) for pair in both) for side in (0, 1)]
    if min(n, default=0) < max(4, SHARE * len(attempts)):
        return None
    # The Mantel-Haenszel risk difference; its variance as if success were the same in all of a stratum's tasks.
    weights = [len(a) * len(b) / (len(a) + len(b)) for a, b in both]
    whole = sum(weights)
    difference = sum(w * (_mean(a) - _mean(b)) for w, (a, b) in zip(weights, both, strict=True)) / whole
    variance = 0.0
    for weight, (a, b) in zip(weights, both, strict=True):
        p = (sum(a) + sum(b) + 1) / (len(a) + len(b) + 2)
        variance += weight * weight * p * (1 - p) * (1 / len(a) + 1 / len(b))
    return Separation(which, difference, difference * whole / variance**0.5)


def _mean(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / len(values)
