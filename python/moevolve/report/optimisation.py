"""An optimisation run in figures: evaluations, failures by type, and the champion's score from first to last."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moevolve.gate.spending import AlphaSpending
from moevolve.journal.figures import counted, duration, number
from moevolve.journal.kinds.ratings import NULLS
from moevolve.journal.ratings import optimises
from moevolve.journal.reader import RunReader, read
from moevolve.journal.text import line
from moevolve.loop.optimise.rule import MOST, exhausted
from moevolve.records import Answers, Arm, Null, NullSearched, Sandbox, Status
from moevolve.report.summary import (
    Cost,
    Figures,
    GuardFigures,
    Journal,
    Memory,
    Promotions,
    Recorded,
    Score,
    SkillFigures,
    Summary,
    Tokens,
    summarise,
)

SHOWN = 12
"""Champions that a table lists, the newest."""


class _Decisions(msgspec.Struct):
    alpha: float = 0.0
    decisions: int = 1


class _Configuration(msgspec.Struct):
    """What a run's configuration says of decisions."""

    optimise: _Decisions


class Champion(Figures, frozen=True, kw_only=True):
    """A champion's score, and the evaluation after which it became one."""

    evaluation: int
    score: float


class NullFigures(Figures, frozen=True, kw_only=True):
    """What a null of the search came to at as many evaluations."""

    score: float | None = None
    """Its champion's, as `final` is the run's; absent where no program has one."""
    over: float | None = None
    """The champion's score less it."""
    evaluations: int
    failed: int
    champion: str


class OptimisationFigures(Figures, frozen=True, kw_only=True):
    """What `moevolve show --json` says of an optimisation run: the contract's fields, and an evaluator's own."""

    run: str
    status: Status
    seed: int
    arm: Arm
    suite: str
    answers: Answers
    cycles: int
    score: Score
    """The evaluator's numbers, initial and final; no interval, since an evaluator has no tasks that it is a mean over."""
    skills: dict[str, SkillFigures]
    promotions: Promotions
    guards: dict[str, GuardFigures]
    variants: int
    memory: Memory
    tokens: Tokens
    cost: Cost | None = None
    """Of the server whose model writes programs."""
    evaluations: int
    rechecks: int
    """Of the evaluations, those of programs that were evaluated before."""
    failed: int
    failures: dict[str, int]
    programs: int
    initial: float | None = None
    """The initial program's score; absent where it failed."""
    final: float | None = None
    """The champion's, from evaluations that it was not chosen by where there are any."""
    champion: str
    promoted: int
    decided: int
    noisy: bool
    """Whether one program got two different scores."""
    exhausted: bool = False
    """Whether the error budget has too little left for any test to promote."""
    champions: list[Champion]
    nulls: dict[Null, NullFigures] = {}
    """By name; absent where the run did not ask for them."""
    seconds: float
    sandbox: Sandbox | None = None
    journal: Journal
    error: str | None = None


def figures(reader: RunReader, summary: Summary) -> OptimisationFigures | None:
    """The figures of an optimisation run; None where the run is none."""
    ratings = reader.view.ratings
    if not optimises(reader.view.started):
        return None
    return OptimisationFigures(
        run=summary.run,
        status=summary.status,
        seed=summary.seed,
        arm=summary.arm,
        suite=summary.suite,
        answers=summary.answers,
        cycles=summary.cycles,
        score=summary.score,
        skills=summary.skills,
        promotions=summary.promotions,
        guards=summary.guards,
        variants=summary.variants,
        memory=summary.memory,
        tokens=summary.tokens,
        cost=summary.cost,
        evaluations=ratings.evaluations,
        rechecks=ratings.rechecks,
        failed=sum(ratings.failures.values()),
        failures=dict(sorted(ratings.failures.items())),
        programs=summary.variants,
        initial=ratings.first,
        final=ratings.champion,
        champion=summary.champion,
        promoted=ratings.promoted,
        decided=ratings.decided,
        noisy=ratings.noisy,
        exhausted=_exhausted(reader),
        champions=[
            Champion(evaluation=at, score=score)
            for at, score in zip(ratings.champions_at, ratings.champions, strict=True)
        ],
        nulls={name: _null(record, ratings.champion) for name, record in ratings.nulls.items()},
        seconds=summary.seconds,
        sandbox=summary.sandbox,
        journal=summary.journal,
        error=summary.error,
    )


def _null(record: NullSearched, final: float | None) -> NullFigures:
    over = None if record.score is None or final is None else final - record.score
    return NullFigures(
        score=record.score,
        over=over if over is not None and math.isfinite(over) else None,
        evaluations=record.evaluations,
        failed=record.failed,
        champion=line(record.champion),
    )


def nulls_line(found: OptimisationFigures) -> str:
    """What nulls of the search came to, beside the champion; empty where there are none."""
    parts = [
        f"{NULLS[name]} {number(each.score, '.8g')} (the champion {number(each.over, '+.6g')} over it)"
        for name, each in found.nulls.items()
    ]
    return f"At as many evaluations, without the search: {'; '.join(parts)}" if parts else ""


def _exhausted(reader: RunReader) -> bool:
    ratings, started = reader.view.ratings, reader.view.started
    if started is None or not ratings.noisy:
        return False
    try:
        settings = msgspec.json.decode(started.config, type=_Configuration).optimise
    except msgspec.DecodeError:
        return False
    spending = AlphaSpending(alpha=settings.alpha, decisions=ratings.tested)
    return settings.decisions == 3 and exhausted(spending.level)


def figures_of(store: Recorded) -> dict[str, Any]:
    """What `moevolve show --json` prints of a run of either kind, as plain values; empty while the journal is."""
    reader = read(store)
    if not reader.view.entries:
        return {}
    summary = summarise(reader, store.head(), store.sandbox())
    plain: dict[str, Any] = msgspec.to_builtins(figures(reader, summary) or summary)
    return plain


def show(found: OptimisationFigures) -> Group:
    """The figures on one screen."""
    initial, final = (
        ("none" if each is None else number(each, ".8g")) for each in (found.initial, found.final)
    )
    noise = ", scores differ from one evaluation to the next" if found.noisy else ""
    parts: list[RenderableType] = [
        Text(
            f"{line(found.run)}  {found.status}  seed {found.seed}, {duration(found.seconds)}", style="bold"
        ),
        Text(
            f"score {initial} to {final}: champion {line(found.champion)} of {counted(found.programs, 'program')}"
        ),
        Text(
            f"{counted(found.evaluations, 'evaluation')}, {found.rechecks} of them second looks; "
            f"{found.promoted} of {counted(found.decided, 'decision')} promoted{noise}"
        ),
    ]
    if found.exhausted:
        parts.append(
            Text(
                "No further program is promoted: so many decisions promoted none that too little of the error budget "
                f"(alpha) is left for a test of {MOST} scores"
            )
        )
    if found.failures:
        kinds = ", ".join(f"{line(kind)} {count}" for kind, count in found.failures.items())
        parts.append(Text(f"failed: {kinds}"))
    if said := nulls_line(found):
        parts.append(Text(said))
    table = Table("after evaluation", "champion's score", box=None, padding=(0, 2, 0, 0))
    for champion in found.champions[-SHOWN:]:
        table.add_row(str(champion.evaluation), number(champion.score, ".8g"))
    if found.champions:
        parts += [Text(""), table]
    if (walls := found.sandbox) and walls.missing:
        parts.append(Text(f"\nMISSING walls: {', '.join(map(line, walls.missing))}"))
    if found.error:
        parts.append(Text(f"\n{line(found.error)}"))
    return Group(*parts)
