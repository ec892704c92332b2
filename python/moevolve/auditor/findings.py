"""What an audit finds: mismatches between what is on file and what follows from it, programs worth a look, and notes."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["mismatch", "finding", "note"]
"""`mismatch`: two things on file contradict each other. `finding`: nothing does, but a person should know. `note`: what
could not be checked, and why."""
MOST = 200
"""Findings of one check that are kept in words; the others are counted."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an audit found."""

    kind: Kind
    check: str
    """Which check: `chain`, `blobs`, `weights`, `seal`, `files`, `settings`, `gate`, `scores`, `sealed`, `budgets`,
    `archive`, `programs`, `growth`, `generalise`, `memory`, `show`."""
    where: str
    """A record (`record 17`), a variant, a file."""
    text: str


class Findings:
    """A collector of findings."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"mismatch": 0, "finding": 0, "note": 0}
        self.listed: list[Finding] = []
        self._by_check: dict[tuple[str, str], int] = {}

    def mismatch(self, check: str, where: str, text: str) -> None:
        """Two things on file contradict each other."""
        self._add("mismatch", check, where, text)

    def finding(self, check: str, where: str, text: str) -> None:
        """Something that a person should know."""
        self._add("finding", check, where, text)

    def note(self, check: str, where: str, text: str) -> None:
        """Something that could not be checked."""
        self._add("note", check, where, text)

    def same(self, check: str, where: str, what: str, recorded: object, computed: object) -> None:
        """A mismatch unless both values are equal."""
        if recorded != computed:
            self.mismatch(
                check, where, f"{what} is {_short(recorded)} on record and {_short(computed)} recomputed"
            )

    def near(self, check: str, where: str, what: str, recorded: float, computed: float) -> None:
        """A mismatch unless both numbers agree to 1e-9, relative to their size where that is above 1."""
        if not abs(recorded - computed) <= 1e-9 * max(1.0, abs(recorded), abs(computed)):
            self.mismatch(check, where, f"{what} is {recorded!r} on record and {computed!r} recomputed")

    def of(self, check: str, kind: Kind = "mismatch") -> int:
        """How many a check found."""
        return self._by_check.get((check, kind), 0)

    def _add(self, kind: Kind, check: str, where: str, text: str) -> None:
        self.counts[kind] += 1
        count = self._by_check[check, kind] = self._by_check.get((check, kind), 0) + 1
        if count <= MOST:
            self.listed.append(Finding(kind=kind, check=check, where=where, text=text))


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else f"{shown[:119]}…"
