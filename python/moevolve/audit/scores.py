"""Scores, sealed accesses and budgets of a run, added up again from its records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from moevolve.audit.findings import Findings
from moevolve.audit.settings import Settings
from moevolve.audit.statistics import paired_gain, wilson
from moevolve.records import (
    Attempted,
    Chosen,
    CycleFinished,
    CycleStarted,
    Evaluated,
    Gated,
    Guarded,
    Interval,
    Learned,
    Metered,
    Proposed,
    Record,
    RunFinished,
    RunStarted,
    Screened,
    Trained,
    VariantAdded,
)


class ScoreFigures(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A sealed score in the report."""

    initial: float | None = None
    final: float | None = None
    initial_ci: tuple[float, float] | None = None
    final_ci: tuple[float, float] | None = None
    gain: float | None = None
    gain_ci: tuple[float, float] | None = None
    n: int | None = None


class SealedFigures(msgspec.Struct, kw_only=True):
    """Accesses to the sealed split in the report."""

    scores: list[str] = []
    """Where it was scored: `initial`, `final`."""
    accesses: int | None = None
    """Accesses on record; None where an older version recorded none."""
    tasks: int | None = None


class BudgetFigures(msgspec.Struct, kw_only=True):
    """What a run took, in the report."""

    cycles: int = 0
    cycles_allowed: int | None = None
    tokens_generated: int = 0
    tokens_trained: int = 0
    requests: int = 0
    cost: str | None = None
    cost_allowed: float | None = None


class Scores:
    """Evaluations of a run in order.

    Args:
        findings: takes what is wrong.
    """

    def __init__(self, findings: Findings) -> None:
        self.sealed = SealedFigures()
        self._findings = findings
        self._settings = Settings({})
        self._skills: list[str] = []
        self._found: dict[str, Evaluated] = {}
        self._finished = False
        self._champion = ""

    def take(self, seq: int, record: Record, champion: str) -> None:
        """Follows the run by one record; `champion` is the one before it."""
        where = f"record {seq}"
        match record:
            case RunStarted():
                self._settings = Settings.of(record.config)
                self._skills = sorted(skill.path for skill in record.skills)
            case Evaluated():
                self._evaluated(where, record, champion)
            case RunFinished():
                self._finished = True
                self._findings.same("archive", where, "the last champion", record.champion, champion)
            case _:
                pass

    @property
    def figures(self) -> ScoreFigures:
        """The sealed scores and their paired gain."""
        first, last = self._found.get("initial"), self._found.get("final")
        figures = ScoreFigures()
        if first is not None:
            figures.initial, figures.initial_ci = first.score.mean, (first.score.low, first.score.high)
            figures.n = first.score.n
        if last is not None:
            figures.final, figures.final_ci = last.score.mean, (last.score.low, last.score.high)
        if first is not None and last is not None and len(first.outcomes) == len(last.outcomes):
            gain = paired_gain(first.outcomes, last.outcomes)
            if gain is not None:
                figures.gain, figures.gain_ci = gain[0], gain[1:]
        return figures

    def close(self, *, complete: bool) -> None:
        """Checks what holds of a whole run."""
        first, last = self._found.get("initial"), self._found.get("final")
        if first and last and len(first.outcomes) != len(last.outcomes):
            self._findings.mismatch(
                "scores",
                "sealed split",
                f"{len(first.outcomes)} tasks at the beginning and {len(last.outcomes)} at the end",
            )
        if self._finished and complete and first is None:
            self._findings.mismatch("sealed", "run", "a finished run has no first score on the sealed split")

    def _evaluated(self, where: str, record: Evaluated, champion: str) -> None:
        check = self._findings
        check.same("scores", where, "who was scored", record.variant, champion)
        _interval(check, where, record.score)
        skills = record.skills
        answered = sum(share.n for share in skills.values())
        check.same("scores", where, "the number of tasks", record.score.n, answered)
        if answered:
            mean = math.fsum(share.score * share.n for share in skills.values()) / answered
            check.near("scores", where, "the mean", record.score.mean, mean)
        if record.tallies:
            self._tallies(where, record)
        if record.outcomes:
            self._outcomes(where, record)
        if record.split == "sealed":
            self._sealed(where, record)
        elif record.when == "final":
            check.mismatch("sealed", where, "a final score on the dev split")

    def _sealed(self, where: str, record: Evaluated) -> None:
        check = self._findings
        self.sealed.scores.append(record.when)
        if record.when in self._found or record.when == "cycle":
            check.mismatch("sealed", where, f"the sealed split was scored once more ({record.when})")
        if record.when == "initial" and (record.cycle != 0 or self._found):
            check.mismatch("sealed", where, "the first sealed score does not come first")
        if self._finished:
            check.mismatch("sealed", where, "the sealed split was scored after the run had finished")
        self._found.setdefault(record.when, record)

    def _tallies(self, where: str, record: Evaluated) -> None:
        attempts: dict[str, int] = {}
        successes: dict[str, int] = {}
        for tally in record.tallies:
            attempts[tally.skill] = attempts.get(tally.skill, 0) + tally.attempts
            successes[tally.skill] = successes.get(tally.skill, 0) + tally.successes
            if not 0 <= tally.successes <= tally.attempts:
                self._findings.mismatch(
                    "scores",
                    where,
                    f"{tally.successes} of {tally.attempts} attempts at {tally.skill} succeeded",
                )
        for skill, share in record.skills.items():
            self._findings.same(
                "scores", where, f"the tasks of {skill} by its tallies", share.n, attempts.get(skill, 0)
            )
            # Partial scores add to successes, and never take from them more than the rest of the tasks.
            least = successes.get(skill, 0) / share.n if share.n else 0.0
            if share.n and not 0.0 <= share.score <= 1.0:
                self._findings.mismatch("scores", where, f"{skill} has a score of {share.score}")
            if self._whole and share.n:
                self._findings.near(
                    "scores", where, f"the score of {skill} by its tallies", share.score, least
                )

    @property
    def _whole(self) -> bool:
        """Whether the suite gives no partial scores: of the shipped ones, the primer."""
        return self._settings.text("suite", "name", "") == "primer"

    def _outcomes(self, where: str, record: Evaluated) -> None:
        check = self._findings
        answered = [outcome for outcome in record.outcomes if outcome is not None]
        if any(not 0 <= outcome <= 1 for outcome in answered):
            check.mismatch("scores", where, "an outcome lies outside of [0, 1]")
            return
        check.same("scores", where, "the number of answered tasks", record.score.n, len(answered))
        if answered:
            check.near(
                "scores",
                where,
                "the mean of the outcomes",
                record.score.mean,
                math.fsum(answered) / len(answered),
            )
        for skill, outcomes in self._by_skill(record.outcomes).items():
            of = [outcome for outcome in outcomes if outcome is not None]
            share = record.skills.get(skill)
            check.same(
                "scores", where, f"the tasks of {skill} by the outcomes", share.n if share else 0, len(of)
            )
            if share is not None and of:
                check.near(
                    "scores",
                    where,
                    f"the score of {skill} by the outcomes",
                    share.score,
                    math.fsum(of) / len(of),
                )

    def _by_skill(self, outcomes: Sequence[float | None]) -> Mapping[str, Sequence[float | None]]:
        """Outcomes by skill: tasks come skill by skill, level by level, as many in each cell."""
        low, high = self._settings.numbers("suite", "levels", (1, 16))
        each = self._settings.whole("suite", "sealed_per_cell", 8)
        chosen = self._settings.names("suite", "skills")
        skills = [skill for skill in self._skills if not chosen or skill in chosen]
        block = int(high - low + 1) * each
        if len(outcomes) != block * len(skills):
            return {}
        return {skill: outcomes[block * k : block * (k + 1)] for k, skill in enumerate(skills)}


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
            case VariantAdded():
                self._variants += 1
            case CycleStarted():
                self._started += 1
                check.same("budgets", where, "the cycle's number", record.cycle, self._started)
                check.same("archive", where, "the champion", record.champion, champion)
                if figures.cycles_allowed and record.cycle > figures.cycles_allowed:
                    check.mismatch("budgets", where, f"more cycles than the {figures.cycles_allowed} allowed")
            case Evaluated() | Chosen() | Gated() | Guarded() | Learned():
                figures.tokens_generated += record.tokens or 0
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
            case Screened():
                self._screened(where, record)
            case Chosen():
                self._generation(where)
            case Metered():
                self._metered(where, record)
            case CycleFinished():
                self._cycle(where, record, champion)
            case _:
                pass

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
        samples = self._settings.whole("attempts", "samples", 1) if record.source == "direct" else 1
        attempts = sum(tally.attempts for tally in record.tallies)
        if tasks and attempts > tasks * samples:
            self._findings.mismatch(
                "budgets", where, f"{attempts} attempts, and {tasks * samples} were allowed"
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
        self._findings.same(
            "archive",
            where,
            "whether it passed the screening",
            record.passed,
            record.score > record.baseline + margin,
        )
        if record.n > most:
            self._findings.mismatch("budgets", where, f"{record.n} tasks screened, and {most} were allowed")

    def _generation(self, where: str) -> None:
        proposers = max(1, len(self._settings.names("evolve", "proposers")))
        most = self._settings.whole("evolve", "candidates", 10**9) * proposers
        if self._proposed > most:
            self._findings.mismatch(
                "budgets", where, f"{self._proposed} candidates in a generation, and {most} were allowed"
            )
        self._proposed = 0

    def _metered(self, where: str, record: Metered) -> None:
        check, figures = self._findings, self.figures
        figures.requests += record.requests
        if record.reused > record.requests or record.cached_tokens > record.prompt_tokens:
            check.mismatch("budgets", where, "more reused requests, or cached tokens, than there were")
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


def _interval(check: Findings, where: str, score: Interval) -> None:
    if not 0 <= score.low <= score.mean <= score.high <= 1 and score.n:
        check.mismatch(
            "scores", where, f"the interval [{score.low}, {score.high}] does not hold its mean {score.mean}"
        )
        return
    low, high = wilson(score.mean, score.n)
    check.near("scores", where, "the interval's lower end", score.low, low)
    check.near("scores", where, "the interval's upper end", score.high, high)
