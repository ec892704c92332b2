"""Budgets of a run: what its records add up to, and what its settings allowed."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, InvalidOperation

import msgspec

from moevolve.auditor.findings import Findings
from moevolve.auditor.rule import MISSING
from moevolve.auditor.settings import Settings
from moevolve.records import (
    AGAIN_STAGE,
    Ablated,
    Attempted,
    Chosen,
    CycleFinished,
    CycleStarted,
    Evaluated,
    Gated,
    Generalised,
    Grown,
    GrowthScored,
    Guarded,
    Imported,
    Learned,
    Metered,
    Nulls,
    Proposed,
    ProposerAsked,
    Record,
    Remembered,
    RunExtended,
    RunFinished,
    RunStarted,
    Screened,
    Selected,
    Trained,
    VariantAdded,
)

SILENT = ("policy", "infrastructure")
"""Failures of attempts that were left without an answer."""


class BudgetFigures(msgspec.Struct, kw_only=True):
    """What a run took, in the report."""

    cycles: int = 0
    cycles_allowed: int | None = None
    tokens_generated: int = 0
    tokens_trained: int = 0
    requests: int = 0
    cost: str | None = None
    cost_allowed: float | None = None


class Budgets:
    """What a run took and what it was allowed.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings, schema: int) -> None:
        self.figures = BudgetFigures()
        self._findings = findings
        self._counted = schema >= 3
        self._settings = Settings({})
        self._learned = 0
        self._variants = 0
        self._started = 0
        self._proposed = 0
        self._put_forward = 0
        """Programs that a person put forward since the last generation."""
        self._by: Counter[str] = Counter()
        self._asked: list[ProposerAsked] = []
        self._attempts: Counter[tuple[int, str]] = Counter()
        """Attempts so far, by cycle and kind; what a skill tree grew shares them."""
        self._ended = False
        self._cost: Decimal | None = None

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is the one before it."""
        where, check = f"record {seq}", self._findings
        figures = self.figures
        match record:
            case RunStarted():
                self._settings = Settings.of(record.config)
                allowed = self._settings.whole("", "cycles", 0)
                figures.cycles_allowed = allowed or None
                figures.cost_allowed = self._settings.number("endpoint", "most_cost", 0.0) or None
            case RunFinished():
                self._ended = True
            case RunExtended():
                self._extended(where, record)
            case VariantAdded():
                self._variants += 1
            case CycleStarted():
                self._started += 1
                check.same("budgets", where, "the cycle's number", record.cycle, self._started)
                check.same("archive", where, "the champion", record.champion, champion)
                if figures.cycles_allowed and record.cycle > figures.cycles_allowed:
                    check.mismatch("budgets", where, f"more cycles than the {figures.cycles_allowed} allowed")
            case (
                Ablated()
                | Evaluated()
                | Nulls()
                | Selected()
                | Chosen()
                | Gated()
                | Guarded()
                | Learned()
                | Grown()
                | GrowthScored()
                | Generalised()
            ):
                figures.tokens_generated += record.tokens or 0
            case Remembered():
                figures.tokens_generated += record.tokens
            case Attempted():
                figures.tokens_generated += record.tokens
                self._attempted(where, record)
            case Trained():
                self._trained(where, record)
            case _:
                pass
        match record:
            case Learned():
                self._learned += record.lessons
                self._recipe(where, record)
            case Proposed(level="program"):
                self._proposed += 1
                self._by[record.proposer] += 1
            case Imported(done=True):
                self._put_forward += 1
            case ProposerAsked():
                self._asked.append(record)
            case Screened():
                self._screened(where, record)
            case Chosen():
                self._generation(where)
            case Generalised():
                self._generalised(where, record)
            case Metered():
                self._metered(where, record)
            case CycleFinished():
                self._cycle(where, record, champion)
            case _:
                pass

    def _extended(self, where: str, record: RunExtended) -> None:
        """More cycles count from where the run ended, or from what it was to have where it had not ended."""
        check, figures = self._findings, self.figures
        check.same("budgets", where, "the cycle before the extension", record.cycle, self._started)
        before = self._started if self._ended or figures.cycles_allowed is None else figures.cycles_allowed
        most = None if record.more_cycles is None else before + record.more_cycles
        check.same("budgets", where, "the cycles allowed from now on", record.cycles, most)
        figures.cycles_allowed = most
        self._ended = False

    def _cycle(self, where: str, record: CycleFinished, champion: str) -> None:
        check, figures = self._findings, self.figures
        figures.cycles += 1
        check.same("archive", where, "the champion", record.champion, champion)
        check.same("archive", where, "the number of variants", record.variants, self._variants)
        check.same("budgets", where, "the number of lessons", record.lessons, self._learned)
        if self._counted:
            for what in ("tokens_generated", "tokens_trained"):
                check.same("budgets", where, what, getattr(record, what), getattr(figures, what))
        else:
            figures.tokens_generated = max(figures.tokens_generated, record.tokens_generated)
            figures.tokens_trained = max(figures.tokens_trained, record.tokens_trained)

    def _attempted(self, where: str, record: Attempted) -> None:
        tasks = self._settings.whole("attempts", "tasks", 0)
        if not tasks:
            return
        kind, most = f"{record.source} attempts", tasks
        if record.stage == AGAIN_STAGE:
            kind, most = "attempts again", self._settings.whole("attempts", "again", 0)
        elif record.source == "direct":
            samples = self._settings.whole("attempts", "samples", 1)
            most = self._settings.whole("attempts", "direct", tasks) * samples
        self._attempts[record.cycle, kind] += sum(tally.attempts for tally in record.tallies)
        if (made := self._attempts[record.cycle, kind]) > most:
            self._findings.mismatch(
                "budgets", where, f"{made} {kind} in cycle {record.cycle}, and {most} were allowed"
            )

    def _trained(self, where: str, record: Trained) -> None:
        self.figures.tokens_trained += record.tokens
        most = self._settings.whole("learn", "steps", 10**9)
        if not 0 < record.step <= record.steps or record.steps > most:
            self._findings.mismatch(
                "budgets", where, f"step {record.step} of {record.steps}, and {most} were allowed"
            )

    def _recipe(self, where: str, record: Learned) -> None:
        recipe = record.recipe
        if recipe is None or self._settings.text("suite", "name", "") == "":
            return
        low, high = self._settings.numbers("learn", "learning_rate", (0.0, 1.0))
        bounds = [
            ("steps", recipe.steps, 0, self._settings.whole("learn", "steps", 10**9)),
            ("batch", recipe.batch, 0, self._settings.whole("learn", "batch", 10**9)),
            ("learning_rate", recipe.learning_rate, low, high),
        ]
        for what, value, least, most in bounds:
            if not least <= value <= most:
                self._findings.mismatch(
                    "budgets", where, f"a recipe's {what} of {value} lies outside of [{least}, {most}]"
                )

    def _screened(self, where: str, record: Screened) -> None:
        margin = self._settings.number("evolve", "margin", 0.0)
        most = self._settings.whole("evolve", "screen", 10**9)
        unanswered = sum(record.failures.get(failure, 0) for failure in SILENT) > MISSING * record.n
        # What an older version found void is on record as a screening that was not passed, and as nothing else.
        void = unanswered and (record.void or not record.passed)
        self._findings.same(
            "archive",
            where,
            "whether it passed the screening",
            record.passed,
            record.score > record.baseline + margin and not void,
        )
        if record.void and not unanswered:
            self._findings.mismatch(
                "archive", where, "a screening is said to be void, and enough was answered"
            )
        if record.n > most:
            self._findings.mismatch("budgets", where, f"{record.n} tasks screened, and {most} were allowed")

    def _generalised(self, where: str, record: Generalised) -> None:
        tasks: dict[tuple[str, int], int] = {}
        for skill, level, n in record.cells:
            tasks[skill, level] = tasks.get((skill, level), 0) + n
        each = tasks.values()
        made, key = (sum(each), "screen") if record.column == "G0" else (max(each, default=0), "per_cell")
        most = self._settings.whole("evolve" if key == "screen" else "generalise", key, 10**9)
        if made > most or min((n for _, _, n in record.cells), default=1) < 1:
            self._findings.mismatch(
                "budgets", where, f"{made} tasks in column {record.column}, and {most} were allowed"
            )

    def _generation(self, where: str) -> None:
        proposers = max(1, len(self._settings.names("evolve", "proposers")))
        most = self._settings.whole("evolve", "candidates", 10**9) * proposers
        if self._by["imported"] > self._put_forward:
            self._findings.mismatch(
                "budgets", where, "a candidate from elsewhere that no person put forward is on record"
            )
        self._put_forward = 0
        if self._proposed - self._by["imported"] > most:
            self._findings.mismatch(
                "budgets", where, f"{self._proposed} candidates in a generation, and {most} were allowed"
            )
        self._proposed = 0
        for record in self._asked:
            about = f"candidates of proposer {record.proposer}"
            self._findings.same("archive", where, f"the {about}", record.made, self._by[record.proposer])
            offered = record.made + record.repeats + len(record.broken)
            if offered > record.asked:
                self._findings.mismatch(
                    "budgets", where, f"{offered} {about}, and {record.asked} were asked for"
                )
        self._asked.clear()
        self._by.clear()

    def _metered(self, where: str, record: Metered) -> None:
        check, figures = self._findings, self.figures
        figures.requests += record.requests
        if record.cached_tokens > record.prompt_tokens:
            check.mismatch("budgets", where, "more cached tokens than there were")
        if record.cost is None:
            return
        try:
            cost = Decimal(record.cost)
        except InvalidOperation:
            check.mismatch("budgets", where, f"a cost of {record.cost!r}")
            return
        self._cost = cost if self._cost is None else self._cost + cost
        figures.cost = f"{self._cost} {record.currency}"
        priced = self._priced(record)
        if priced is not None and abs(priced - cost) > Decimal("1e-9"):
            check.mismatch("budgets", where, f"its tokens cost {priced}, and {cost} is on record")
        if figures.cost_allowed is not None and self._cost > Decimal(repr(figures.cost_allowed)):
            check.mismatch("budgets", where, f"{self._cost} was spent, and {figures.cost_allowed} allowed")

    def _priced(self, record: Metered) -> Decimal | None:
        prices = [self._settings.number("endpoint", f"price_{what}", -1) for what in ("input", "output")]
        if min(prices) < 0:
            return None
        cached = self._settings.number("endpoint", "price_cached", prices[0])
        read = Decimal(record.prompt_tokens - record.cached_tokens) * Decimal(repr(prices[0]))
        again = Decimal(record.cached_tokens) * Decimal(repr(cached))
        return (read + again + Decimal(record.completion_tokens) * Decimal(repr(prices[1]))) / 10**6
