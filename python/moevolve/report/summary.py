"""A run in figures, as `moevolve show --json` prints them: the view of its journal in the contract's shape.

One file above 400 lines: the figures and how each follows from the view stand side by side.

What was not measured is absent. `score` is on the sealed split, the same tasks before and after; `dev` is on fresh dev
tasks, from the first dev score to the newest.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import msgspec

from moevolve.journal import figures
from moevolve.journal.ratings import Ratings, optimises
from moevolve.journal.reader import Readable, RunReader, read
from moevolve.journal.scores import Gain, Point, Skill, Split
from moevolve.journal.view import RunView
from moevolve.records import Answers, Arm, Gated, Guarded, Level, Nulls, Sandbox, Status, Suspect
from moevolve.report.ablation import AblationFigures, ablation
from moevolve.report.generalisation import ColumnFigures, generalisation
from moevolve.report.growth import GrowthFigures, growth
from moevolve.report.score import ends, short
from moevolve.report.search import AcceptedFigures, EarnedFigures, accepted
from moevolve.report.search import figures as earnings

ALARMS = 100
"""Most alarms that are listed."""
GATES = 1000
"""Most decisions of the gate that are listed, the newest."""
Bounds = tuple[float, float]


class Recorded(Readable, Protocol):
    """What a summary needs of a run's store."""

    def head(self) -> str: ...
    def sandbox(self) -> Sandbox | None: ...


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the summary's parts: a field that is None is absent from JSON."""


class Score(Figures, frozen=True, kw_only=True):
    """A score before and after with 95 % intervals, over `n` tasks each."""

    initial: float | None = None
    final: float | None = None
    initial_ci: Bounds | None = None
    final_ci: Bounds | None = None
    gain: float | None = None
    gain_ci: Bounds | None = None
    n: int | None = None
    bare_initial: float | None = None
    """The bare policy's on the same tasks, where programs may compute."""
    bare_final: float | None = None
    bare_initial_ci: Bounds | None = None
    bare_final_ci: Bounds | None = None


class SkillFigures(Figures, frozen=True, kw_only=True):
    """A leaf: its mastered level, its sealed scores, and its dev scores from the first to the newest."""

    level: int | None = None
    level_ci: tuple[int, int] | None = None
    initial: float | None = None
    final: float | None = None
    attempts: int
    initial_level: int | None = None
    initial_level_ci: tuple[int, int] | None = None
    dev_initial: float | None = None
    dev_final: float | None = None


class Count(Figures, frozen=True, kw_only=True):
    proposed: int
    accepted: int


class Promotions(Figures, frozen=True, kw_only=True):
    weights: Count
    program: Count


class GuardFigures(Figures, frozen=True, kw_only=True):
    checked: int
    vetoed: int
    alarms: int
    """How often it found what an honest run would hardly show."""


class AlarmFigures(Figures, frozen=True, kw_only=True):
    """An alarm of a guard, with attempts that caused it."""

    cycle: int
    guard: str
    variant: str
    detail: str
    attempts: list[Suspect]


class Memory(Figures, frozen=True, kw_only=True):
    lessons: int
    recalls: int = 0
    practised: int = 0
    """Recalls of the champion's program in practice."""
    silent: int = 0
    """Recalls that no lesson answered."""
    gain: float | None = None
    """What it brought to attempts that recalled something: their score less that of the same attempts without memory."""
    gain_ci: tuple[float, float] | None = None
    n: int = 0
    """Attempts that were made both ways."""
    expired: int = 0
    """Lessons that did harm."""
    notes: int = 0
    """Texts of programs that were kept."""
    outlived: int = 0
    """Lessons that helped, and may outlive the run."""


class Tokens(Figures, frozen=True, kw_only=True):
    generated: int
    trained: int


class Journal(Figures, frozen=True, kw_only=True):
    entries: int
    head: str


class StageFigures(Figures, frozen=True, kw_only=True):
    """What a server was asked in all stages of one kind."""

    stage: str
    requests: int
    tokens: int
    cost: str | None = None
    failed: int


class Cost(Figures, frozen=True, kw_only=True):
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
    endings: dict[str, int] = {}
    """Answers that ended otherwise than by themselves."""
    refused: dict[str, str] = {}
    """Fields that the server refuses, with its words."""
    reason: str = ""
    """Why the first request that failed for good did."""
    money: str | None = None
    """A decimal number, exact; absent without prices."""
    currency: str
    stages: list[StageFigures]


class CurvePoint(Figures, frozen=True, kw_only=True):
    """One score of the run, in order."""

    cycle: int
    split: Split
    score: float
    low: float
    high: float
    n: int
    seconds: float
    variant: str


class GateFigures(Figures, frozen=True, kw_only=True):
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


class Summary(Figures, frozen=True, kw_only=True):
    """A run in figures. The fields up to `journal` are a contract; what comes after is more than it asks for."""

    run: str
    status: Status
    seed: int
    arm: Arm
    suite: str
    answers: Answers
    cycles: int
    seconds: float
    score: Score
    skills: dict[str, SkillFigures]
    promotions: Promotions
    false_promotion_bound: float | None = None
    guards: dict[str, GuardFigures]
    alarms: list[AlarmFigures]
    """The newest alarms of guards."""
    waiting: list[str]
    """Variants that passed the gate and wait for a person's approval."""
    sandbox: Sandbox | None = None
    champion: str
    variants: int
    memory: Memory
    tokens: Tokens
    journal: Journal
    parameters: int
    dev: Score
    curve: list[CurvePoint]
    gates: list[GateFigures]
    ablations: list[AblationFigures] = []
    """The newest promotions of weights, taken apart."""
    screened: int
    proposers: list[EarnedFigures] = []
    """What each proposer's candidates came to, the best first."""
    operators: list[EarnedFigures] = []
    accepted: list[AcceptedFigures] = []
    """Kinds of edits that were promoted, or that what was promoted is built on, with the files that they changed."""
    growth: GrowthFigures | None = None
    """What the skill tree grew, in no score; absent where nothing was tried."""
    generalisation: dict[str, ColumnFigures] = {}
    """The first variant and the champion on the screening's tasks (G0), the sealed ones (G1), and what the run never worked
    on (G2 to G4); absent where the run was not asked for it."""
    nulls: Nulls | None = None
    """The champion beside the bare policy at its budget of tokens."""
    stage: str
    error: str | None = None
    scored: int = 0
    """Tasks of all scores, dev and sealed, answered or not."""
    unanswered: int = 0
    """Those that policy or machine left without an answer: in no score, and too many of them void one."""
    cost: Cost | None = None
    """Of a run whose policy is a server."""


def summary_of(store: Recorded) -> Summary | None:
    """The summary of a run's store; None while the journal is empty."""
    reader = read(store)
    return summarise(reader, store.head(), store.sandbox()) if reader.view.entries else None


def summarise(reader: RunReader, head: str, sandbox: Sandbox | None) -> Summary:
    """The summary of a run that was read.

    Raises:
        UsageError: nothing is recorded yet.
    """
    view, started, state = reader.view, reader.started, reader.state
    return Summary(
        run=started.run,
        status=reader.status,
        seed=started.seed,
        arm=started.arm,
        suite=started.suite,
        answers=started.answers,
        cycles=view.cycles,
        seconds=round(max(view.seconds, state.seconds if state else 0.0), 3),
        score=_rated(view.ratings)
        if optimises(started)
        else _score(view.point("sealed"), view.point("sealed", newest=True), view.sealed_gain),
        skills={path: _skill(skill) for path, skill in sorted(view.skills.items())},
        promotions=Promotions(
            weights=Count(proposed=0, accepted=0),
            program=Count(proposed=max(0, len(view.variants) - 1), accepted=view.ratings.promoted),
        )
        if optimises(started)
        else Promotions(
            **{
                level: Count(proposed=view.proposed[level], accepted=accepted)
                for level, (accepted, _) in view.decisions.items()
            }
        ),
        false_promotion_bound=view.error_spent,
        guards={
            name: GuardFigures(checked=counts.checked, vetoed=counts.vetoed, alarms=counts.alarms)
            for name, counts in sorted(view.guards.items())
        },
        alarms=_alarms(reader),
        waiting=list(view.waiting),
        sandbox=sandbox,
        champion=view.champion,
        variants=len(view.variants),
        memory=_memory(view),
        tokens=Tokens(generated=view.generated, trained=view.trained),
        journal=Journal(entries=view.entries, head=head),
        parameters=started.parameters,
        scored=view.asked,
        unanswered=view.missing,
        dev=_score(view.point("dev"), view.point("dev", newest=True), view.dev_gain),
        curve=[_curve(point) for point in view.curve],
        gates=_gates(reader),
        ablations=[ablation(reader.entry(seq).record) for seq in reader.view.ablations[-GATES:]],
        screened=view.screened,
        proposers=earnings(view.accounts.proposers, rated=optimises(started)),
        operators=earnings(view.accounts.operators, rated=optimises(started)),
        accepted=[] if optimises(started) else accepted(reader),
        growth=growth(view),
        generalisation=generalisation(view),
        nulls=view.nulls,
        stage=state.stage if state else "",
        error=state.error if state else None,
        cost=_cost(reader),
    )


def _memory(view: RunView) -> Memory:
    memory, gain = view.memory, view.memory.gain
    return Memory(
        lessons=view.lessons,
        recalls=memory.recalls,
        practised=memory.practised,
        silent=memory.silent,
        gain=None if gain is None else gain.gain,
        gain_ci=None if gain is None else gain.interval,
        n=memory.pairs,
        expired=memory.expired,
        notes=memory.notes,
        outlived=memory.outlived,
    )


def _alarms(reader: RunReader) -> list[AlarmFigures]:
    records = (reader.entry(seq).record for seq in reader.view.alarms[-ALARMS:])
    return [
        AlarmFigures(
            cycle=record.cycle,
            guard=record.guard,
            variant=record.variant,
            detail=record.detail,
            attempts=record.attempts,
        )
        for record in records
        if isinstance(record, Guarded)
    ]


def _score(before: Point | None, after: Point | None, gain: Gain | None) -> Score:
    return Score(
        initial=short(before.score.mean) if before else None,
        final=short(after.score.mean) if after else None,
        initial_ci=ends(before.score) if before else None,
        final_ci=ends(after.score) if after else None,
        gain=short(gain.gain) if gain else None,
        gain_ci=(short(gain.interval[0]), short(gain.interval[1])) if gain else None,
        n=before.score.n if before else None,
        bare_initial=short(before.bare.mean) if before and before.bare else None,
        bare_final=short(after.bare.mean) if after and after.bare else None,
        bare_initial_ci=ends(before.bare) if before and before.bare else None,
        bare_final_ci=ends(after.bare) if after and after.bare else None,
    )


def _rated(ratings: Ratings) -> Score:
    """An evaluator's numbers; no interval, since an evaluator has no tasks that it is a mean over."""
    first, last = ratings.first, ratings.champion
    gain = None if first is None or last is None else last - first
    return Score(initial=first, final=last, gain=gain if gain is not None and math.isfinite(gain) else None)


def _skill(skill: Skill) -> SkillFigures:
    def share(of: dict[str, Any], split: Split) -> float | None:
        return short(of[split].score) if split in of else None

    level, level_ci = skill.level or (None, None)
    initial_level, initial_level_ci = skill.first_level or (None, None)
    return SkillFigures(
        level=level,
        level_ci=level_ci,
        initial=share(skill.first, "sealed"),
        final=share(skill.newest, "sealed"),
        attempts=skill.attempts,
        initial_level=initial_level,
        initial_level_ci=initial_level_ci,
        dev_initial=share(skill.first, "dev"),
        dev_final=share(skill.newest, "dev"),
    )


def _curve(point: Point) -> CurvePoint:
    low, high = ends(point.score)
    return CurvePoint(
        cycle=point.cycle,
        split=point.split,
        score=short(point.score.mean),
        low=low,
        high=high,
        n=point.score.n,
        seconds=round(point.seconds, 3),
        variant=point.variant,
    )


def _gates(reader: RunReader) -> list[GateFigures]:
    gates = []
    for seq in reader.view.gates[-GATES:]:
        record = reader.entry(seq).record
        assert isinstance(record, Gated), "the view names the gate's decisions"
        row = reader.view.variants.row(record.candidate)
        made = None if row is None else reader.variant(row)
        gates.append(
            GateFigures(
                cycle=record.cycle,
                level=record.level,
                candidate=record.candidate,
                champion=record.champion,
                decision=record.decision,
                reason=record.reason,
                operator=made.operator if made else "",
                summary=made.summary if made else "",
                n=record.n,
                wins=record.wins,
                losses=record.losses,
                gain=short(record.gain),
                evidence=short(record.evidence),
                alpha=record.alpha,
                vetoes=list(record.vetoes),
            )
        )
    return gates


def _cost(reader: RunReader) -> Cost | None:
    spent = reader.view.spent
    if not spent.bills:
        return None
    return Cost(
        requests=spent.requests,
        reused=spent.reused,
        calls=spent.calls,
        prompt_tokens=spent.prompt_tokens,
        cached_tokens=spent.cached_tokens,
        completion_tokens=spent.completion_tokens,
        unmetered=spent.unmetered,
        faults=dict(sorted(spent.faults.items())),
        failures=dict(sorted(spent.failures.items())),
        endings=dict(sorted(spent.endings.items())),
        refused=dict(sorted(spent.refused.items())),
        reason=spent.reason,
        money=None if spent.money is None else figures.money(spent.money),
        currency=spent.currency,
        stages=[
            StageFigures(
                stage=stage.stage,
                requests=stage.requests,
                tokens=stage.tokens,
                cost=None if stage.cost is None else figures.money(stage.cost),
                failed=stage.failed,
            )
            for stage in spent.stages.values()
        ],
    )
