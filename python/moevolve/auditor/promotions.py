"""What stands between a candidate that passed the gate and its crown: guards that refuse it, and a person who is asked."""

from __future__ import annotations

from moevolve.auditor.findings import Findings
from moevolve.auditor.settings import Settings
from moevolve.records import Controlled, Gated, Guarded, Record, RunStarted, VariantAdded

JUDGED = ("canaries", "honeypots", "drift", "alignment")
"""Guards whose alarm is evidence that has reached its proof."""
REFUSING = ("canaries", "honeypots")
"""Those of them that look at every candidate that passed, and refuse it by their alarm."""
GROWTH = "growth"
"""Refuses by evidence, where the loss is above the margin as well."""
SERVED = "fallback-harmonic-1"
"""The rule of a server that learns from its clients: it asks nobody."""


class Promotions:
    """Guards, approvals and rejections of a run in order.

    Args:
        findings: takes what is wrong.
        only: look at the decision about this candidate alone.
    """

    def __init__(self, findings: Findings, only: str | None) -> None:
        self._findings = findings
        self._only = only
        self._settings = Settings({})
        self._variants: dict[str, VariantAdded] = {}
        self._checks: list[Guarded] = []
        """Since the newest decision."""
        self._waiting: list[str] = []

    def take(self, seq: int, record: Record) -> None:
        """Follows the run by one record."""
        match record:
            case RunStarted():
                self._settings = Settings.of(record.config)
            case VariantAdded():
                self._variants[record.variant] = record
            case Guarded():
                self._checks.append(record)
                if self._only in (None, record.variant):
                    self._checked(f"record {seq}, {record.guard}", record)
            case Gated():
                if self._only in (None, record.candidate):
                    self._decided(f"record {seq}, {record.candidate}", record)
                if record.decision == "hold":
                    self._waiting.append(record.candidate)
                self._checks.clear()
            case Controlled(command="approve" | "reject", done=True):
                if record.variant not in self._waiting and self._only in (None, record.variant):
                    self._findings.mismatch(
                        "gate",
                        f"record {seq}",
                        f"{record.command} of {record.variant}, which did not wait for it",
                    )
                # The others were compared with the champion before.
                left = [] if record.command == "approve" else [*self._waiting]
                self._waiting = [name for name in left if name != record.variant]
            case _:
                pass

    def _checked(self, where: str, record: Guarded) -> None:
        """Whether a check came to what its evidence says."""
        if record.evidence is None or record.proof is None:
            return
        proved = record.evidence >= record.proof
        if record.guard in JUDGED:
            self._findings.same("gate", where, "its alarm", record.alarm, proved)
        if record.guard in REFUSING:
            self._findings.same("gate", where, "the number of vetoes", record.vetoed, int(proved))
        if record.guard == GROWTH and record.vetoed and not proved:
            self._findings.mismatch("gate", where, "it refuses without its proof")

    def _decided(self, where: str, record: Gated) -> None:
        checks = [check for check in self._checks if check.variant == record.candidate]
        refusing = sorted(check.guard for check in checks if check.vetoed)
        self._findings.same("gate", where, "the guards that refused it", sorted(record.guards), refusing)
        if (record.decision == "veto") != bool(refusing):
            self._findings.mismatch(
                "gate",
                where,
                f"{', '.join(refusing) or 'no guard'} refused it, and the decision is {record.decision}",
            )
        if record.decision not in ("promote", "hold", "veto") or (record.rule == SERVED and not record.pairs):
            return
        watching = self._settings.names("guard", "use")
        for guard in REFUSING:
            if guard in watching and not any(check.guard == guard for check in checks):
                self._findings.mismatch("gate", where, f"it passed, and no check of {guard} is on record")
        self._asked(where, record)

    def _asked(self, where: str, record: Gated) -> None:
        """Whether a person was asked where the settings say so."""
        approve = self._settings.text("guard", "approve", "none")
        candidate, champion = self._variants.get(record.candidate), self._variants.get(record.champion)
        brought = set()
        if candidate is not None and champion is not None:
            brought |= {"program"} if candidate.program != champion.program else set()
            brought |= {"weights"} if candidate.weights != champion.weights else set()
        asked = approve in (record.level, "all")
        if record.decision == "promote" and asked:
            self._findings.mismatch(
                "gate", where, f"promoted, and guard.approve = {approve} asks a person first"
            )
        elif record.decision == "promote" and approve in brought:
            self._findings.finding(
                "gate", where, f"it brought a {approve} of its own, which no person was asked about"
            )
        elif record.decision == "hold" and not asked and approve not in brought and not self._waiting:
            self._findings.mismatch(
                "gate", where, f"it waits for a person, and guard.approve = {approve} asks nobody"
            )
