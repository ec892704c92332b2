"""An audit's result: figures with stable names for JSON, and one page of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from moevolve.auditor.archive import ChampionFigures
from moevolve.auditor.budgets import BudgetFigures
from moevolve.auditor.decisions import DecisionFigures
from moevolve.auditor.files import SealFigures
from moevolve.auditor.findings import Finding
from moevolve.auditor.scores import ScoreFigures, SealedFigures

SHOWN = 12
"""Findings of a kind that the page shows."""


class ChainFigures(msgspec.Struct, kw_only=True):
    """The journal's chain."""

    entries: int
    head: str
    schema: int
    expected_head: str | None = None
    """What the caller said that the head should be."""


class BlobFigures(msgspec.Struct, kw_only=True):
    """What lies in the store under its hash, and the weights beside it."""

    blobs: int
    weights: int
    """Files whose bytes were compared with a hash on record."""


class AlphaFigures(msgspec.Struct, kw_only=True):
    """The gate's error budget."""

    bound: float
    spent: float
    decisions: int
    promotions: int


class ProgramFigures(msgspec.Struct, kw_only=True):
    """A program that today's rules would look at."""

    variant: str
    program: str
    verdict: str
    """`computes`, `chooses`, `recites`, `unread`, or `plan`: a recorded plan that is not the policy's words alone."""
    promoted: bool
    places: list[str]


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit found. The fields are a contract."""

    path: str
    run: str
    decision: str | None
    """The candidate whose decision alone was made again; None where everything was looked at."""
    state: str
    """`finished`, `running` (a process writes it now) or `unfinished`."""
    complete: bool
    """Whether a whole run was audited; of a live or killed one, what there is."""
    answers: str
    rules: str
    """By which rule programs were looked at: `policy` or `any`."""
    ok: bool
    mismatches: int
    findings: list[Finding]
    chain: ChainFigures
    contents: BlobFigures
    seal: SealFigures
    decisions: list[DecisionFigures]
    alpha: AlphaFigures
    sealed: SealedFigures
    score: ScoreFigures
    budgets: BudgetFigures
    champion: ChampionFigures | None
    programs: list[ProgramFigures]

    @property
    def exit_code(self) -> int:
        """0 where nothing on file contradicts anything else, 1 otherwise."""
        return 0 if self.ok else 1

    def text(self, clean: Callable[[str], str]) -> str:
        """One page.

        Args:
            clean: makes one line of foreign text harmless: names, reasons and sources come from programs.
        """
        return "".join(f"{f'{label:<10} {clean(text)}'.rstrip()}\n" for label, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        told = {"finished": "finished", "running": "still running", "unfinished": "not finished"}[self.state]
        yield "audit of", f"{self.path}: {self.run or 'no run on record'}, {told}"
        if not self.complete:
            yield "", "audited as far as it goes: what a finished run has besides could not be looked at"
        yield "chain", f"{self.chain.entries} records, head {self.chain.head}"
        if self.chain.expected_head is not None:
            yield "", f"written down elsewhere: {self.chain.expected_head}"
        yield from self._whole() if self.decision is None else self._single()
        yield from self._found("mismatch", "MISMATCH")
        yield from self._found("finding", "found")
        yield from self._found("note", "unchecked")
        yield (
            "result",
            "nothing on file contradicts anything else"
            if self.ok
            else f"{_counted(self.mismatches, 'mismatch', 'mismatches')}: what is on file is not what happened",
        )

    def _whole(self) -> Iterator[tuple[str, str]]:
        yield (
            "contents",
            f"{self.contents.blobs} blobs and {self.contents.weights} weights files under their hashes",
        )
        yield "seal", self._seal()
        yield "gate", self._gate()
        yield "sealed", self._sealed()
        yield "score", self._score()
        yield "budgets", self._budgets()
        yield from self._champion()
        yield from self._programs()

    def _seal(self) -> str:
        if not self.seal.present:
            return "none"
        kept = "intact" if self.seal.intact else "BROKEN"
        return f"{kept}, {self.seal.files} files, {self.seal.bytes:,} bytes"

    def _gate(self) -> str:
        made = self.decisions
        again = [each for each in made if each.checked]
        return (
            f"{_counted(len(made), 'decision')}, {len(again)} made again from {sum(each.n for each in again):,} pairs; "
            f"{self.alpha.spent:.4f} of {self.alpha.bound:g} spent, {_counted(self.alpha.promotions, 'promotion')}"
        )

    def _single(self) -> Iterator[tuple[str, str]]:
        """The decision, where one alone was asked for."""
        for each in self.decisions:
            yield (
                "decision",
                f"record {each.record}, cycle {each.cycle}: {each.candidate} against {each.champion}, {each.level}",
            )
            yield (
                "recorded",
                f"{each.decision}: {each.n} pairs, {each.gain:+.4f}, evidence {each.evidence:.9f}",
            )
            if each.checked:
                yield (
                    "again",
                    f"{each.recomputed or 'undecided'}: evidence {each.evidence_recomputed:.9f}",
                )

    def _sealed(self) -> str:
        where = " and ".join(self.sealed.scores) or "never"
        accesses = (
            "accesses not recorded"
            if self.sealed.accesses is None
            else f"{self.sealed.accesses} accesses on record"
        )
        return f"scored {where}; {accesses}"

    def _score(self) -> str:
        score = self.score
        if score.initial is None:
            return "none"
        text = f"{score.initial:.3f}{_ci(score.initial_ci)}"
        if score.final is not None:
            text += f" -> {score.final:.3f}{_ci(score.final_ci)}"
        if score.gain is not None:
            text += f", gain {score.gain:+.3f}{_ci(score.gain_ci)}"
        return f"{text} over {score.n} tasks"

    def _budgets(self) -> str:
        took = self.budgets
        cycles = f"{took.cycles}/{took.cycles_allowed}" if took.cycles_allowed else str(took.cycles)
        text = f"{cycles} cycles, {took.tokens_generated:,} tokens drawn, {took.tokens_trained:,} trained"
        if took.requests:
            text += f", {took.requests:,} requests"
        if took.cost is not None:
            text += f", {took.cost}"
        return text

    def _champion(self) -> Iterator[tuple[str, str]]:
        champion = self.champion
        if champion is None:
            return
        yield "champion", f"{champion.variant}; its program by way of {' > '.join(champion.lineage)}"
        for path, ranges in champion.files.items():
            by: dict[tuple[str, str], int] = {}
            for each in ranges:
                key = each.variant, each.operator
                by[key] = by.get(key, 0) + each.last - each.first + 1
            shares = ", ".join(
                f"{lines} of {variant} ({operator})" for (variant, operator), lines in by.items()
            )
            yield "", f"{path}: lines {shares}"
        for stage in champion.trained:
            attempts = ", ".join(f"{count:,} {source}" for source, count in stage.attempts.items())
            kept = "not recorded" if stage.confirmed is None else f"{stage.confirmed:,} confirmed"
            yield (
                "",
                f"weights: cycle {stage.cycle} ({stage.variant}), {attempts or 'no'} attempts, {kept}, "
                f"{stage.tokens:,} tokens trained",
            )
        if not champion.trained and champion.weights:
            yield "", "weights: as they were at the start"

    def _programs(self) -> Iterator[tuple[str, str]]:
        for each in self.programs[:SHOWN]:
            promoted = ", which was champion" if each.promoted else ""
            yield "program", f"{each.variant}{promoted}: {SAID[each.verdict]}"
            for place in each.places[:3]:
                yield "", place
        if len(self.programs) > SHOWN:
            yield "", f"and {len(self.programs) - SHOWN} more"

    def _found(self, kind: str, word: str) -> Iterator[tuple[str, str]]:
        listed = [each for each in self.findings if each.kind == kind]
        for each in listed[:SHOWN]:
            yield word, f"{each.check}, {each.where}: {each.text}"
        if len(listed) > SHOWN:
            yield "", f"and {len(listed) - SHOWN} more"


SAID = {
    "computes": "answers with texts that it computes",
    "chooses": "picks or confirms the policy's words by a text that it computes",
    "recites": "answers with a constant or a lesson",
    "unread": "cannot be read",
    "plan": "its plan's answer is not made of the policy's words alone",
}


def _ci(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def _counted(count: int, word: str, several: str | None = None) -> str:
    return f"{count} {word if count == 1 else several or word + 's'}"
