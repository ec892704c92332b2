"""The gate's decisions, made again from the pairs on record by the rule in `docs/audit.md`.

A decision looks after every batch. It asks for a gain first (whole rounds of skills, error rate alpha), then for every skill
unharmed (margin, skill_alpha), against the champion and against the variant that holds the skill's best level.
"""

from __future__ import annotations

import math

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.promotions import Promotions
from moevolve.auditor.rule import MISSING, GateTest, Recomputed
from moevolve.auditor.settings import Settings
from moevolve.auditor.statistics import EVENNESS, share, spent
from moevolve.records import PASSED, Controlled, Gated, Guarded, Record, RolledBack, RunStarted

RULE = "fallback-harmonic-10"
SERVED = ("fallback-harmonic-1", 1)
"""The rule of a server that learns from its clients, and its evenness."""
TAKEOVER = 0.4


class DecisionFigures(msgspec.Struct, kw_only=True):
    """A decision in the report."""

    record: int
    cycle: int
    level: str
    candidate: str
    champion: str
    decision: str
    recomputed: str | None
    """What follows from the pairs; None where none are on record."""
    n: int
    gain: float
    evidence: float
    evidence_recomputed: float | None
    alpha: float
    spent: float | None
    checked: bool
    """Whether pairs were on record to check it by."""


class Decisions:
    """All decisions of a run in order.

    Args:
        findings: takes what is wrong.
        only: look at the decision about this candidate alone; budgets and best levels are followed all the same.
    """

    def __init__(self, findings: Findings, only: str | None = None) -> None:
        self.figures: list[DecisionFigures] = []
        self.settings = Settings({})
        self.skills: list[str] = []
        self.candidates: list[str] = []
        self.alpha = 0.0
        self.spent = 0.0
        self._findings = findings
        self._only = only
        self._few: int | None = None
        self._decided = 0
        self._promoted = 0
        self._holders: dict[str, str] = {}
        self._champion = ""
        self._unpaired = 0
        self._held: dict[str, dict[str, str]] = {}
        self._passed: set[str] = set()
        self._promotions = Promotions(findings, only)

    def take(self, seq: int, record: Record) -> None:
        """Follows the run by one record."""
        self._promotions.take(seq, record)
        match record:
            case RunStarted():
                self.settings = Settings.of(record.config)
                self.skills = sorted(skill.path for skill in record.skills)
                chosen = self.settings.names("suite", "skills")
                self.skills = sorted(set(chosen) & set(self.skills)) if chosen else self.skills
                self._champion = record.champion
                self._holders = dict.fromkeys(self.skills, record.champion)
                self.alpha = self.settings.number("gate", "alpha", 0.05)
            case Guarded(guard="finite data"):
                self._few = record.checked
            case RolledBack():
                self._findings.same(
                    "archive", f"record {seq}", "the champion before", record.before, self._champion
                )
                self._champion = record.champion
            case Controlled():
                self._controlled(record)
            case Gated():
                self._decision(seq, record)
            case _:
                pass

    @property
    def made(self) -> int:
        """Decisions that took a share of the error budget."""
        return self._decided

    @property
    def promotions(self) -> int:
        """Decisions by which a candidate passed."""
        return len(self._passed)

    def close(self) -> None:
        """Says what was not on record."""
        if self._unpaired:
            self._findings.note(
                "gate",
                "run",
                f"{self._unpaired} of {len(self.figures)} decisions have no pairs on record: an older version or a "
                "server wrote them",
            )

    def _decision(self, seq: int, record: Gated) -> None:
        where = f"record {seq}, {record.candidate}"
        self.candidates.append(record.candidate)
        if record.decision in PASSED:
            self._passed.add(record.candidate)
        self._findings.same("gate", where, "the champion", record.champion, self._champion)
        budgeted = record.rule != ""
        if budgeted:
            self._budget(where, record)
        recomputed = None
        if record.pairs and (self._only in (None, record.candidate) or record.decision in PASSED):
            test = GateTest(record.alpha, self.settings, self.skills, self._few, self._elsewhere())
            recomputed = test.play(record.pairs, where, self._findings)
            if self._only in (None, record.candidate):
                self._compare(where, record, recomputed)
            if record.decision == "promote":
                self._holders = self._after(test, record.candidate)
            elif record.decision == "hold":
                self._held[record.candidate] = self._after(test, record.candidate)
        elif not record.pairs and self._only in (None, record.candidate):
            self._unpaired += 1
            self._plausible(where, record)
        if record.decision == "promote":
            self._champion = record.candidate
        if self._only in (None, record.candidate):
            self.figures.append(
                DecisionFigures(
                    record=seq,
                    cycle=record.cycle,
                    level=record.level,
                    candidate=record.candidate,
                    champion=record.champion,
                    decision=record.decision,
                    recomputed=recomputed.decision if recomputed else None,
                    n=record.n,
                    gain=record.gain,
                    evidence=record.evidence,
                    evidence_recomputed=recomputed.evidence if recomputed else None,
                    alpha=record.alpha,
                    spent=record.spent,
                    checked=recomputed is not None,
                )
            )

    def _budget(self, where: str, record: Gated) -> None:
        """The decision's share of the run's error budget, and what is spent after it."""
        check = self._findings
        # A server's decisions, on what clients say and without pairs on record, have a rule of their own.
        served = not record.pairs and record.rule == SERVED[0]
        rule, evenness = SERVED if served else (RULE, EVENNESS)
        check.same("gate", where, "the rule of the error budget", record.rule, rule)
        level = share(self.alpha, self._decided - self._promoted, evenness)
        check.near("gate", where, "alpha", record.alpha, level)
        self._decided += 1
        self._promoted += record.decision in PASSED
        self.spent = spent(self.alpha, self._decided - self._promoted, evenness)
        if record.spent is None:
            check.mismatch("gate", where, "what is spent of the error budget is not on record")
        else:
            check.near("gate", where, "what is spent of alpha", record.spent, self.spent)
        if self.spent > self.alpha + 1e-12:
            check.mismatch("gate", where, f"{self.spent} of the error budget {self.alpha} is spent")

    def _compare(self, where: str, record: Gated, found: Recomputed) -> None:
        check = self._findings
        for what in ("n", "missing", "wins", "losses"):
            check.same("gate", where, what, getattr(record, what), getattr(found, what))
        for what in ("gain", "evidence"):
            check.near("gate", where, what, getattr(record, what), getattr(found, what))
        for what in ("skills", "bounds"):
            ours, theirs = getattr(found, what), getattr(record, what)
            check.same("gate", where, f"the skills of {what}", sorted(theirs), sorted(ours))
            for skill in ours.keys() & theirs.keys():
                check.near("gate", where, f"{what} of {skill}", theirs[skill], ours[skill])
        # A test whose tasks have run out ends in the archive, undecided as it is, or without a decision where too many pairs
        # had no answer.
        void = bool(found.missing) and found.missing / (found.n + found.missing) > MISSING
        out_of_tasks = found.decision is None and record.decision == ("void" if void else "archive")
        if out_of_tasks and not void and "no fresh tasks" not in record.reason:
            check.mismatch("gate", where, "it was sent to the archive while the test was undecided")
        elif not out_of_tasks:
            # Whether a candidate that passed waits for a person or a guard refuses it is no matter of its pairs.
            passed = "promote" if record.decision in PASSED else record.decision
            check.same("gate", where, "the decision", passed, found.decision)
            check.same("gate", where, "the vetoes", sorted(record.vetoes), sorted(found.vetoes))

    def _controlled(self, record: Controlled) -> None:
        if record.done and record.command == "approve":
            self._holders = self._held.pop(record.variant, self._holders)
            self._champion = record.variant

    def _plausible(self, where: str, record: Gated) -> None:
        """What can be said of a decision without pairs: whether it fits the figures beside it."""
        check = self._findings
        if record.wins + record.losses > record.n:
            check.mismatch(
                "gate", where, f"{record.wins} wins and {record.losses} losses of {record.n} pairs"
            )
        if record.decision in PASSED:
            if record.evidence < math.log(1 / record.alpha) - 1e-9:
                check.mismatch(
                    "gate",
                    where,
                    f"promoted at evidence {record.evidence:.3f}, below log(1/alpha) = {math.log(1 / record.alpha):.3f}",
                )
            if record.vetoes:
                check.mismatch("gate", where, f"promoted against the vetoes of {', '.join(record.vetoes)}")
        if record.skills and record.level == "program":
            mean = math.fsum(record.skills.values()) / len(record.skills)
            if abs(mean) > 1 or abs(record.gain) > 1:
                check.mismatch("gate", where, f"a gain of {record.gain}")

    def _elsewhere(self) -> list[str]:
        return [skill for skill, holder in self._holders.items() if holder != self._champion]

    def _after(self, test: GateTest, candidate: str) -> dict[str, str]:
        """Who holds which skill's best level once a candidate is the champion."""
        return {
            skill: candidate
            if test.differences[skill, holder != self._champion].log_capital() >= TAKEOVER
            else holder
            for skill, holder in self._holders.items()
        }
