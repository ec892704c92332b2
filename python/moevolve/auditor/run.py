"""The audit of a run: one pass over its journal, its blobs and its files, everything computed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from moevolve.auditor import files, plans, sources
from moevolve.auditor.archive import Archive
from moevolve.auditor.budgets import Budgets
from moevolve.auditor.decisions import Decisions
from moevolve.auditor.findings import Findings
from moevolve.auditor.generalising import Generalisation
from moevolve.auditor.growth import Growth
from moevolve.auditor.journal import JournalFile, program
from moevolve.auditor.live import is_written, snapshot
from moevolve.auditor.optimisation import Optimisation, searches_alike
from moevolve.auditor.pages import DamagedPageError, PageFile
from moevolve.auditor.remembering import Remembering
from moevolve.auditor.report import (
    AlphaFigures,
    AuditReport,
    BlobFigures,
    ChainFigures,
    ProgramFigures,
)
from moevolve.auditor.scores import Scores
from moevolve.errors import UsageError
from moevolve.records import Controlled, Record, RunExtended, RunFinished, VariantAdded

POLICY_SUITES = ("primer",)
"""Shipped suites whose answers are the policy's by today's rules, whatever an older run's record says."""


def audit(path: str | Path, *, decision: str | None = None, head: str | None = None) -> AuditReport:
    """Reads a run without the code that wrote it, and computes again what follows from its records.

    Args:
        path: the run's folder.
        decision: make the decision about this candidate again, and look at nothing but the chain besides.
        head: the journal's head as it was written down elsewhere.

    Raises:
        UsageError: the folder holds no run, or the run no decision about this candidate.
        StoreError: the run's journal changes too fast to be read.
    """
    run = Path(path)
    file = run / "journal" / "data.mdb"
    if not file.is_file():
        raise UsageError(f"{run} holds no run: there is no {file}")
    written = is_written(run)
    with snapshot(file, written=written) as data:
        auditor = _Auditor(run, data, written=written, only=decision)
        report = auditor.report(head)
    if decision is not None and not report.decisions:
        made = ", ".join(auditor.candidates) or "none"
        raise UsageError(f"{run} has no decision about {decision}: there are some about {made}")
    return report


class _Auditor:
    """One audit.

    Args:
        run: the run's folder.
        data: the file to read, the run's own or a copy.
        written: whether a process writes the run now.
        only: the decision to look at.
        null: whether it is a null's run, which has none itself.
    """

    def __init__(self, run: Path, data: Path, *, written: bool, only: str | None, null: bool = False) -> None:
        self.candidates: list[str] = []
        self._run = run
        self._written = written
        self._only = only
        self._null = null
        self._findings = Findings()
        self._archive = Archive(self._findings)
        self._decisions = Decisions(self._findings, only)
        self._scores = Scores(self._findings)
        self._budgets = Budgets(self._findings, 3)
        self._memory = Remembering(self._findings)
        self._growth = Growth(self._findings)
        self._generalisation = Generalisation(self._findings)
        self._optimisation = Optimisation(self._findings)
        self._last: Record | None = None
        self._programs: list[ProgramFigures] = []
        self._lineage: dict[str, Mapping[str, str]] = {}
        self._chain = ChainFigures(entries=0, head="0" * 64, schema=0)
        self._contents = BlobFigures(blobs=0, weights=0)
        try:
            with PageFile(data) as pages:
                self._read(JournalFile(pages, self._findings))
        except DamagedPageError as error:
            self._findings.mismatch("chain", "journal/data.mdb", str(error))

    def report(self, head: str | None) -> AuditReport:
        """Looks at the files beside the journal; returns everything."""
        finished = isinstance(self._last, RunFinished)
        state = "running" if self._written else "finished" if finished else "unfinished"
        seal = files.SealFigures()
        if self._only is None:
            seal = self._files(finished)
        self._head(head)
        started = self._archive.started
        self._decisions.close()
        if self._only is None and self._optimisation.found:
            self._optimisation.close(complete=finished)
            if not self._null:
                self._nulls()
        elif self._only is None:
            self._scores.close(complete=finished)
        mismatches = self._findings.counts["mismatch"]
        decisions = self._decisions
        return AuditReport(
            path=str(self._run),
            run=started.run if started else "",
            decision=self._only,
            state=state,
            complete=finished and not self._written,
            answers=started.answers if started else "",
            rules=self._rules(),
            ok=not mismatches,
            mismatches=mismatches,
            findings=self._findings.listed,
            chain=self._chain,
            contents=self._contents,
            seal=seal,
            decisions=decisions.figures,
            alpha=AlphaFigures(
                bound=decisions.alpha,
                spent=decisions.spent,
                decisions=decisions.made,
                promotions=decisions.promotions,
            ),
            sealed=self._scores.sealed,
            score=self._scores.figures,
            budgets=self._budgets.figures,
            champion=self._archive.provenance(self._lineage) if self._only is None else None,
            programs=self._programs,
        )

    def _nulls(self) -> None:
        """Audits the nulls of an optimisation run, each in a folder of its own, and holds its record against them."""
        findings, ours = self._findings, self._optimisation
        for name, record in ours.nulls.items():
            where = f"nulls/{name}"
            run = self._run / where
            file = run / "journal" / "data.mdb"
            if not file.is_file():
                findings.mismatch("optimisation", where, "the null is on record, and its folder is missing")
                continue
            with snapshot(file, written=False) as data:
                null = _Auditor(run, data, written=False, only=None, null=True)
                report = null.report(record.head)
            for each in report.findings:
                if each.kind == "mismatch":
                    findings.mismatch(each.check, f"{where}: {each.where}", each.text)
            theirs = null._optimisation
            one, other = ours.started, theirs.started
            if one is None or other is None or not searches_alike(one, other, name):
                findings.mismatch(
                    "optimisation", where, "it has not the run's evaluator, program and settings"
                )
            champion = null._archive.champion
            for what, told, found in (
                ("evaluations", record.evaluations, theirs.evaluations),
                ("failed evaluations", record.failed, theirs.failed),
                ("the champion", record.champion, champion),
                ("the champion's score", record.score, theirs.score(champion)),
                ("whether it has ended", True, report.complete),
            ):
                findings.same("optimisation", where, what, told, found)

    # ------------------------------------------------------------------ the journal

    def _read(self, journal: JournalFile) -> None:
        self._budgets = Budgets(self._findings, journal.schema)
        self._memory = Remembering(self._findings)
        for seq, record, _ in journal.records():
            champion = self._archive.champion
            taken_back = isinstance(record, Controlled) and record.command == "rollback"
            if isinstance(self._last, RunFinished) and not taken_back and not isinstance(record, RunExtended):
                self._findings.mismatch("chain", f"record {seq}", "a record after the end of the run")
            self._decisions.take(seq, record)
            self._optimisation.take(seq, record, champion)
            self._archive.take(seq, record)
            if self._only is None:
                self._scores.take(seq, record, champion)
                self._growth.take(seq, record, champion)
                self._generalisation.take(seq, record, champion)
                self._budgets.take(seq, record, champion)
                self._memory.take(seq, record)
            # What the tree grew may be taken back after the end as well, which leaves it the end.
            if not taken_back or not isinstance(self._last, RunFinished):
                self._last = record
        self._chain = ChainFigures(entries=journal.entries, head=journal.head, schema=journal.schema)
        self.candidates = self._decisions.candidates
        if self._archive.started is None and journal.entries:
            self._findings.mismatch("chain", "record 0", "the journal does not begin with the start of a run")
        if self._only is not None:
            return
        journal.check_blobs()
        journal.check_tables()
        journal.check_pages()
        self._contents.blobs = journal.blobs
        self._look_at_programs(journal)

    def _look_at_programs(self, journal: JournalFile) -> None:
        """Programs and plans of all variants, one at a time; those of the champion's lineage are kept."""
        archive = self._archive
        variants = list(archive.variants.values())
        kept = {variant.program for variant in archive.lineage(archive.champion)}
        first: dict[str, VariantAdded] = {}
        for variant in variants:
            for name in (variant.program, variant.behaviour):
                if name:
                    first.setdefault(name, variant)
        for name, whose in (self._growth.behaviours | self._generalisation.behaviours).items():
            if whose in archive.variants:
                first.setdefault(name, msgspec.structs.replace(archive.variants[whose], behaviour=name))
        for name, variant in first.items():
            if name not in journal.blob_hashes:
                what = "program" if name == variant.program else "plans"
                self._findings.mismatch(
                    "blobs", variant.variant, f"its {what} are on record and not in the store"
                )
        champions = {archive.variants[name].program for name in archive.promoted if name in archive.variants}
        for name, data in journal.blobs_named(set(first)):
            variant = first[name]
            try:
                if name == variant.program:
                    genome = program(data)
                    if name in kept:
                        self._lineage[name] = genome
                    self._source(variant, genome, promoted=name in champions)
                else:
                    self._plans(variant, plans.behaviour(data), promoted=variant.program in champions)
            except msgspec.DecodeError as error:
                self._findings.mismatch("programs", variant.variant, f"it cannot be read: {error}")
        order = {variant.variant: index for index, variant in enumerate(variants)}
        self._programs.sort(key=lambda figures: (not figures.promoted, order[figures.variant]))
        promoted = sum(figures.promoted for figures in self._programs)
        if self._programs and self._rules() != "policy":
            self._findings.finding(
                "programs",
                "run",
                f"{len(self._programs)} programs, {promoted} of them champions, compute or recite answers, which this "
                "run grants; where answers are the policy's they would be refused",
            )

    def _source(self, variant: VariantAdded, genome: Mapping[str, str], *, promoted: bool) -> None:
        reading = sources.read(genome)
        if reading is None or reading.verdict == "asks":
            return
        self._programs.append(
            ProgramFigures(
                variant=variant.variant,
                program=variant.program,
                verdict=reading.verdict,
                promoted=promoted,
                places=reading.places,
            )
        )
        if self._rules() == "policy" and promoted:
            self._findings.mismatch(
                "programs",
                variant.variant,
                f"it was champion where answers are the policy's, and it {reading.verdict} answers",
            )

    def _plans(self, variant: VariantAdded, behaviour: plans.Behaviour, *, promoted: bool) -> None:
        faults = {skill: fault for skill, plan in behaviour.plans.items() if (fault := plans.foreign(plan))}
        policy = self._rules() == "policy"
        if behaviour.computes and policy and promoted:
            self._findings.mismatch(
                "programs",
                variant.variant,
                "it was champion where answers are the policy's, and it has no plan",
            )
        if not faults:
            return
        self._programs.append(
            ProgramFigures(
                variant=variant.variant,
                program=variant.program,
                verdict="plan",
                promoted=promoted,
                places=[f"{skill}: {fault}" for skill, fault in sorted(faults.items())][:6],
            )
        )

    def _rules(self) -> str:
        """Whose answers must be by today's rules."""
        started = self._archive.started
        if started is None:
            return "any"
        return "policy" if started.answers == "policy" or started.suite in POLICY_SUITES else "any"

    # ------------------------------------------------------------------ files

    def _files(self, finished: bool) -> files.SealFigures:
        findings, run, archive = self._findings, self._run, self._archive
        seal, figures = files.check_seal(run, findings)
        if seal is not None:
            for what, said, found in (
                ("the head", seal.head, self._chain.head),
                ("the number of records", seal.entries, self._chain.entries),
            ):
                if said != found:
                    findings.mismatch(
                        "seal", files.SEAL, f"{what} is {said} in the seal and {found} in the journal"
                    )
        expected = isinstance(self._last, RunFinished) and self._last.seal
        if not figures.present and expected and not self._written:
            findings.mismatch(
                "seal", files.SEAL, "the last record says that the run is sealed, and it is not"
            )
        elif not figures.present:
            why = "the run has not finished" if not finished else "an older version left it unsealed"
            findings.note(
                "seal",
                "run",
                f"{why}: records, blobs and weights follow from their hashes, and free pages, timings, tables and "
                "settings from nothing",
            )
        self._contents.weights = files.check_weights(run, archive.weights, findings, finished=finished)
        champion = archive.variants.get(archive.champion)
        if champion is not None:
            files.check_program(run, self._lineage.get(champion.program), findings, finished=finished)
        written = finished and not self._optimisation.found
        if archive.started is not None and (written or (run / "run.toml").exists()):
            files.check_settings(run, self._decisions.settings, findings, schema=self._chain.schema)
        return figures

    def _head(self, head: str | None) -> None:
        if head is None:
            return
        self._chain.expected_head = head
        if head.lower() != self._chain.head:
            self._findings.mismatch(
                "chain", "head", f"the head is {self._chain.head}, and {head} was written down elsewhere"
            )


def compare(report: AuditReport, shown: Mapping[str, Any]) -> None:
    """Compares a report with the figures that `moevolve show --json` prints; what differs is a mismatch of it."""
    findings = Findings()
    score = report.score
    pairs: Iterable[tuple[str, object, object]] = [
        ("journal.head", shown.get("journal", {}).get("head"), report.chain.head),
        ("journal.entries", shown.get("journal", {}).get("entries"), report.chain.entries),
        ("champion", shown.get("champion"), report.champion and report.champion.variant),
        ("score.initial", shown.get("score", {}).get("initial"), _rounded(score.initial)),
        ("score.final", shown.get("score", {}).get("final"), _rounded(score.final)),
        ("score.n", shown.get("score", {}).get("n"), score.n),
        ("tokens.generated", shown.get("tokens", {}).get("generated"), report.budgets.tokens_generated),
        ("tokens.trained", shown.get("tokens", {}).get("trained"), report.budgets.tokens_trained),
        ("cycles", shown.get("cycles"), report.budgets.cycles),
    ]
    if score.gain is not None:
        pairs = [*pairs, ("score.gain", shown.get("score", {}).get("gain"), _rounded(score.gain))]
    for what, theirs, ours in pairs:
        if theirs != ours:
            findings.mismatch("show", what, f"`moevolve show` says {theirs!r}, and the records {ours!r}")
    report.findings += findings.listed
    report.mismatches += findings.counts["mismatch"]
    report.ok = not report.mismatches


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
