"""A run in figures: the journal folded into one `Summary`, which `moevolve show --json` prints.

The names of the first fields are a contract; what comes after `journal` is more than the contract asks for.

- `score.initial` is on the sealed split. `score.final` is too once the run has finished; before that it is
  the newest dev score, or the initial one before there is any, and `score.final_split` says which.
- A run without a live writer that did not finish is `stopped`, whatever its last words were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from moevolve.journal import figures
from moevolve.journal.intervals import independent_gain as gain_interval
from moevolve.journal.intervals import mastered_level
from moevolve.records import (
    Arm,
    Attempted,
    Chosen,
    CycleFinished,
    Entry,
    Evaluated,
    Gated,
    Guarded,
    Interval,
    Learned,
    Level,
    Metered,
    Proposed,
    RolledBack,
    RunFinished,
    RunStarted,
    Screened,
    SkillScore,
    State,
    Status,
    Struct,
    Trained,
    VariantAdded,
)

SIGNIFICANT = 4
"""Decimals of scores in the summary."""


class Readable(Protocol):
    """What a summary needs of a run's store."""

    def entries(self, start: int = 0, limit: int | None = None) -> Sequence[Entry]: ...
    def state(self) -> State | None: ...
    def writer_alive(self) -> bool: ...


class Score(Struct, frozen=True):
    initial: float | None
    final: float | None
    initial_ci: tuple[float, float] | None
    final_ci: tuple[float, float] | None
    n: int
    """Tasks of the initial score."""
    gain: float | None = None
    gain_ci: tuple[float, float] | None = None
    final_split: Literal["sealed", "dev"] | None = None


class SkillFigures(Struct, frozen=True):
    level: int
    initial: float | None
    final: float | None
    attempts: int
    initial_level: int = 0


class Count(Struct, frozen=True):
    proposed: int = 0
    accepted: int = 0


class Promotions(Struct, frozen=True):
    weights: Count
    program: Count


class GuardFigures(Struct, frozen=True):
    checked: int
    vetoed: int


class Memory(Struct, frozen=True):
    lessons: int


class Tokens(Struct, frozen=True):
    generated: int
    trained: int


class Journal(Struct, frozen=True):
    entries: int
    head: str


class StageCost(Struct, frozen=True):
    """What a server was asked in one stage of one cycle."""

    cycle: int
    stage: str
    requests: int
    tokens: int
    cost: str | None
    failed: int


class Cost(Struct, frozen=True):
    """What a server was asked in the whole run, as it reports it; see `Metered` for the words."""

    requests: int
    reused: int
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    unmetered: int
    """Answered calls without usage figures; where there are any, tokens and money are lower bounds."""
    faults: dict[str, int]
    failures: dict[str, int]
    money: str | None
    """A decimal number, exact; None without prices."""
    currency: str
    stages: list[StageCost]


class CurvePoint(Struct, frozen=True):
    """One score of the run, in order."""

    cycle: int
    split: Literal["sealed", "dev"]
    score: float
    low: float
    high: float
    n: int
    seconds: float
    variant: str


class GateFigures(Struct, frozen=True):
    """One decision of the gate, and what was decided about."""

    cycle: int
    level: Level
    candidate: str
    champion: str
    decision: str
    reason: str
    operator: str
    summary: str
    n: int
    wins: int
    losses: int
    gain: float
    evidence: float
    alpha: float
    vetoes: list[str]


class Summary(Struct, frozen=True):
    """A run in figures; see the module for what a field holds before the run has finished."""

    run: str
    status: Status
    seed: int
    arm: Arm
    cycles: int
    seconds: float
    score: Score
    skills: dict[str, SkillFigures]
    promotions: Promotions
    guards: dict[str, GuardFigures]
    champion: str
    variants: int
    memory: Memory
    tokens: Tokens
    journal: Journal
    suite: str = ""
    parameters: int = 0
    curve: list[CurvePoint] = []
    gates: list[GateFigures] = []
    screened: int = 0
    stage: str = ""
    error: str | None = None
    cost: Cost | None = None
    """Of a run whose policy is a server."""


def summary_of(store: Readable) -> Summary | None:
    """The summary of a run's store; None while the journal is empty."""
    entries = store.entries()
    return fold(entries, store.state(), alive=store.writer_alive()) if entries else None


def summarise(store: Readable) -> dict[str, object]:
    """The summary as plain values, ready for JSON; empty while the journal is."""
    summary = summary_of(store)
    plain: dict[str, object] = msgspec.to_builtins(summary) if summary else {}
    return plain


def fold(entries: Sequence[Entry], state: State | None = None, *, alive: bool = False) -> Summary:
    """Folds a journal into its summary.

    Args:
        entries: the whole journal, at least its first record.
        state: what the writer says of itself.
        alive: whether a process writes the run now.
    """
    records = [entry.record for entry in entries]
    started = next(record for record in records if isinstance(record, RunStarted))
    evaluations = [record for record in records if isinstance(record, Evaluated)]
    initial = next((e for e in evaluations if e.split == "sealed" and e.when == "initial"), None)
    final = next((e for e in reversed(evaluations) if e.split == "sealed" and e.when == "final"), None)
    latest = final or (evaluations[-1] if evaluations else None)
    finished = [record for record in records if isinstance(record, CycleFinished)]
    generated, trained = _tokens(entries)
    return Summary(
        run=started.run,
        status=_status(records, state, alive),
        seed=started.seed,
        arm=started.arm,
        cycles=finished[-1].cycle if finished else 0,
        seconds=round(max(entries[-1].timing.at, state.seconds if state else 0.0), 3),
        score=_score(initial, latest),
        skills=_skills(started, records, initial, latest),
        promotions=_promotions(records),
        guards=_guards(records),
        champion=_champion(records, started),
        variants=sum(isinstance(record, VariantAdded) for record in records),
        memory=Memory(lessons=sum(record.lessons for record in records if isinstance(record, Learned))),
        tokens=Tokens(generated=generated, trained=trained),
        journal=Journal(entries=len(entries), head=entries[-1].hash),
        suite=started.suite,
        parameters=started.parameters,
        curve=[
            CurvePoint(
                cycle=entry.record.cycle,
                split=entry.record.split,
                score=_short(entry.record.score.mean),
                low=_short(entry.record.score.low),
                high=_short(entry.record.score.high),
                n=entry.record.score.n,
                seconds=round(entry.timing.at, 3),
                variant=entry.record.variant,
            )
            for entry in entries
            if isinstance(entry.record, Evaluated)
        ],
        gates=_gates(records),
        screened=sum(isinstance(record, Screened) for record in records),
        stage=state.stage if state else "",
        error=state.error if state else None,
        cost=_cost(records),
    )


def _short(value: float) -> float:
    return round(value, SIGNIFICANT)


def _ci(interval: Interval) -> tuple[float, float]:
    return _short(interval.low), _short(interval.high)


def _status(records: Sequence[object], state: State | None, alive: bool) -> Status:
    if isinstance(records[-1], RunFinished):
        return "finished"
    if alive:
        return "paused" if state is not None and state.status == "paused" else "running"
    return "failed" if state is not None and state.status == "failed" else "stopped"


def _score(initial: Evaluated | None, latest: Evaluated | None) -> Score:
    before, after = (initial or latest), latest
    if before is None or after is None:
        return Score(initial=None, final=None, initial_ci=None, final_ci=None, n=0)
    low, high = gain_interval(before.score, after.score)
    return Score(
        initial=_short(before.score.mean),
        final=_short(after.score.mean),
        initial_ci=_ci(before.score),
        final_ci=_ci(after.score),
        n=before.score.n,
        gain=_short(after.score.mean - before.score.mean),
        gain_ci=(_short(low), _short(high)),
        final_split=after.split,
    )


def _skills(
    started: RunStarted, records: Iterable[object], initial: Evaluated | None, latest: Evaluated | None
) -> dict[str, SkillFigures]:
    attempts: dict[str, int] = {}
    for record in records:
        if isinstance(record, Attempted):
            for tally in record.tallies:
                attempts[tally.skill] = attempts.get(tally.skill, 0) + tally.attempts
    before: dict[str, SkillScore] = initial.skills if initial else {}
    after: dict[str, SkillScore] = latest.skills if latest else {}
    then, now = _levels(started, initial), _levels(started, latest)
    return {
        path: SkillFigures(
            level=now.get(path, 0),
            initial=_short(before[path].score) if path in before else None,
            final=_short(after[path].score) if path in after else None,
            attempts=attempts.get(path, 0),
            initial_level=then.get(path, 0),
        )
        for path in sorted({info.path for info in started.skills} | before.keys() | after.keys())
    }


def _levels(started: RunStarted, evaluated: Evaluated | None) -> dict[str, int]:
    cells: dict[str, dict[int, tuple[float, float]]] = {}
    for tally in evaluated.tallies if evaluated else []:
        cells.setdefault(tally.skill, {})[tally.level] = (tally.successes, tally.attempts)
    ranges = {info.path: info.levels for info in started.skills}
    return {path: mastered_level(each, ranges[path])[0] for path, each in cells.items() if path in ranges}


def _promotions(records: Sequence[object]) -> Promotions:
    counts = {}
    for level in ("weights", "program"):
        counts[level] = Count(
            proposed=sum(isinstance(r, Proposed) and r.level == level for r in records),
            accepted=sum(
                isinstance(r, Gated) and r.level == level and r.decision == "promote" for r in records
            ),
        )
    return Promotions(weights=counts["weights"], program=counts["program"])


def _guards(records: Iterable[object]) -> dict[str, GuardFigures]:
    guards: dict[str, GuardFigures] = {}
    for record in records:
        if isinstance(record, Guarded):
            sofar = guards.get(record.guard, GuardFigures(checked=0, vetoed=0))
            guards[record.guard] = GuardFigures(
                checked=sofar.checked + record.checked, vetoed=sofar.vetoed + record.vetoed
            )
    return dict(sorted(guards.items()))


def _champion(records: Sequence[object], started: RunStarted) -> str:
    for record in reversed(records):
        if isinstance(record, RunFinished | CycleFinished):
            return record.champion
        if isinstance(record, RolledBack):
            return record.champion
        if isinstance(record, Gated) and record.decision == "promote":
            return record.candidate
    return started.champion


def _tokens(entries: Sequence[Entry]) -> tuple[int, int]:
    """Tokens (generated, trained): the newest cycle's totals, and what came after it."""
    generated = trained = 0
    for entry in reversed(entries):
        record = entry.record
        if isinstance(record, CycleFinished):
            return generated + record.tokens_generated, trained + record.tokens_trained
        if isinstance(record, Evaluated | Attempted | Gated | Chosen | Learned):
            generated += record.tokens or 0
        elif isinstance(record, Trained):
            trained += record.tokens
    return generated, trained


def _cost(records: Iterable[object]) -> Cost | None:
    bills = [record for record in records if isinstance(record, Metered)]
    if not bills:
        return None
    faults: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for bill in bills:
        faults.update(bill.faults)
        failures.update(bill.failures)
    money = (
        None if any(bill.cost is None for bill in bills) else sum(Decimal(bill.cost or 0) for bill in bills)
    )
    return Cost(
        requests=sum(bill.requests for bill in bills),
        reused=sum(bill.reused for bill in bills),
        calls=sum(bill.calls for bill in bills),
        prompt_tokens=sum(bill.prompt_tokens for bill in bills),
        cached_tokens=sum(bill.cached_tokens for bill in bills),
        completion_tokens=sum(bill.completion_tokens for bill in bills),
        unmetered=sum(bill.unmetered for bill in bills),
        faults=dict(sorted(faults.items())),
        failures=dict(sorted(failures.items())),
        money=None if money is None else figures.money(Decimal(money)),
        currency=bills[0].currency,
        stages=[
            StageCost(
                cycle=bill.cycle,
                stage=bill.stage,
                requests=bill.requests,
                tokens=bill.prompt_tokens + bill.completion_tokens,
                cost=bill.cost,
                failed=sum(bill.failures.values()),
            )
            for bill in bills
        ],
    )


def _gates(records: Iterable[object]) -> list[GateFigures]:
    made: dict[str, tuple[str, str]] = {}
    gates = []
    for record in records:
        if isinstance(record, VariantAdded | Proposed):
            made[record.variant] = (record.operator, record.summary)
        elif isinstance(record, Gated):
            operator, summary = made.get(record.candidate, ("", ""))
            gates.append(
                GateFigures(
                    cycle=record.cycle,
                    level=record.level,
                    candidate=record.candidate,
                    champion=record.champion,
                    decision=record.decision,
                    reason=record.reason,
                    operator=operator,
                    summary=summary,
                    n=record.n,
                    wins=record.wins,
                    losses=record.losses,
                    gain=_short(record.gain),
                    evidence=_short(record.evidence),
                    alpha=record.alpha,
                    vetoes=list(record.vetoes),
                )
            )
    return gates
