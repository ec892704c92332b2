"""The course of a run: its beginning and end, its cycles, what memory took, what a server charged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from moevolve.journal.costs import said_endings, said_refused
from moevolve.journal.figures import amount, counted
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.text import line
from moevolve.records import (
    CycleFinished,
    CycleStarted,
    Learned,
    Metered,
    RunExtended,
    RunFinished,
    RunStarted,
)

if TYPE_CHECKING:
    from moevolve.journal.view import RunView


@says(RunStarted)
def _started(record: RunStarted) -> Said:
    size = f"{amount(record.parameters)} parameters" if record.parameters else line(record.weights)
    return (
        f"Run {line(record.run)} starts: seed {record.seed}, arm {record.arm}, "
        f"{counted(len(record.skills), 'skill')} of {line(record.suite)}, {size}",
        "head",
    )


@folds(RunStarted)
def _start(view: RunView, record: RunStarted, seq: int, at: float) -> None:
    view.started = record
    view.planned = planned_cycles(record.config)
    view.champion = record.champion
    view.champion_history.append(record.champion)
    for leaf in record.skills:
        skill = view.skill(leaf.path)
        skill.summary, skill.levels = line(leaf.summary), leaf.levels


def planned_cycles(config: str) -> int | None:
    """`cycles` of a run's configuration, None where it is unset or no configuration of this version."""
    try:
        table = msgspec.json.decode(config)
    except msgspec.DecodeError:
        return None
    cycles = table.get("cycles") if isinstance(table, dict) else None
    return cycles if isinstance(cycles, int) and cycles > 0 else None


@says(CycleStarted)
def _cycle_started(record: CycleStarted) -> Said:
    turn = f", the {record.turn}'s turn" if record.turn else ""
    return f"Cycle {record.cycle} starts from {line(record.champion)}{turn}", "head"


@folds(CycleStarted)
def _start_cycle(view: RunView, record: CycleStarted, seq: int, at: float) -> None:
    view.cycle = record.cycle
    view.cycles_started += 1
    view.opened.append(seq)
    view.fade()


@says(CycleFinished)
def _cycle_finished(record: CycleFinished) -> Said:
    return (
        f"Cycle {record.cycle} done: champion {line(record.champion)}, "
        f"{counted(record.variants, 'variant')}, {counted(record.lessons, 'lesson')}",
        "head",
    )


@folds(CycleFinished)
def _finish_cycle(view: RunView, record: CycleFinished, seq: int, at: float) -> None:
    view.cycles = record.cycle
    # Schema version 2 counted what gate and screening drew here alone.
    view.generated = max(view.generated, record.tokens_generated)
    view.trained = max(view.trained, record.tokens_trained)
    view.accounts.take(record)
    view.close_generation()


@says(RunFinished)
def _finished(record: RunFinished) -> Said:
    after = f" after {counted(record.cycles, 'cycle')}" if record.cycles else ""
    return f"Run finished{after}; champion {line(record.champion)}", "head"


@folds(RunFinished)
def _finish(view: RunView, record: RunFinished, seq: int, at: float) -> None:
    view.finished = True
    view.close_generation()


@says(RunExtended)
def _extended(record: RunExtended) -> Said:
    more = [] if record.more_cycles is None else [counted(record.more_cycles, "more cycle")]
    more += [] if record.more_minutes is None else [f"{record.more_minutes:g} more minutes"]
    return f"Run extended after {counted(record.cycle, 'cycle')}: {' and '.join(more)}", "head"


@folds(RunExtended)
def _extend(view: RunView, record: RunExtended, seq: int, at: float) -> None:
    view.finished = False
    view.planned = record.cycles
    view.extensions += 1
    # What its end measured is of a champion that may change; its new end measures it again.
    view.generalised.clear()
    view.nulls = None


@says(Learned)
def _learned(record: Learned) -> Said:
    kept = f"Kept {counted(record.lessons, 'lesson')} and {counted(record.confirmed, 'confirmed answer')}"
    return f"{kept}; {record.buffer:,} in the buffer", "plain"


@folds(Learned)
def _learn(view: RunView, record: Learned, seq: int, at: float) -> None:
    view.lessons += record.lessons
    view.generated += record.tokens or 0
    view.recipe = record.recipe


@says(Metered)
def _metered(record: Metered) -> Said:
    parts = [
        counted(record.requests, "request"),
        f"{record.prompt_tokens + record.completion_tokens:,} tokens",
    ]
    if record.cost is not None:
        parts.append(f"{line(record.cost)} {line(record.currency)}")
    if record.unmetered:
        parts.append(f"{record.unmetered:,} calls without usage figures")
    retried = sum(record.faults.values()) - sum(record.failures.values())
    if retried > 0:
        parts.append(f"{retried:,} calls made again")
    if record.failures:
        kinds = ", ".join(f"{count:,} {line(kind)}" for kind, count in sorted(record.failures.items()))
        first = f" (the first: {line(record.reason)})" if record.reason else ""
        parts.append(f"failed: {kinds}{first}")
    parts += said_endings(record.endings)
    parts += said_refused(record.refused)
    return f"Asked the server for {line(record.stage)}: {', '.join(parts)}", "quiet"


@folds(Metered)
def _meter(view: RunView, record: Metered, seq: int, at: float) -> None:
    view.spent.add(record)
