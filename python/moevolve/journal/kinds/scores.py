"""What was measured and trained: evaluations, attempts, progress of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.figures import counted, gain, interval
from moevolve.journal.kinds.registry import Said, folds, says
from moevolve.journal.scores import Point
from moevolve.journal.text import line
from moevolve.records import AGAIN_STAGE, Ablated, Attempted, Evaluated, Nulls, SealedOpened, Trained

if TYPE_CHECKING:
    from moevolve.journal.view import RunView


@says(Evaluated)
def _evaluated(record: Evaluated) -> Said:
    when = {"initial": "before", "cycle": f"after cycle {record.cycle}", "final": "at the end"}[record.when]
    missing = f", {record.missing:,} more without an answer" if record.missing else ""
    if record.bare is not None:
        missing += f"; the bare policy {interval(record.bare)}"
    if record.void:
        return (
            f"No {record.split} score {when}: {record.missing:,} of {record.score.n + record.missing:,} tasks had no answer",
            "bad",
        )
    return (
        f"{record.split.capitalize()} score {when}: {interval(record.score)} "
        f"on {counted(record.score.n, 'task')}{missing}",
        "sealed" if record.split == "sealed" else "curve",
    )


@folds(Evaluated)
def _evaluate(view: RunView, record: Evaluated, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.missing += record.missing
    view.asked += record.missing + record.score.n
    if record.void:
        return
    view.curve.append(
        Point(
            cycle=record.cycle,
            split=record.split,
            when=record.when,
            score=record.score,
            seconds=at,
            variant=record.variant,
            bare=record.bare,
        )
    )
    if record.split == "sealed":
        view.outcomes[record.when == "final"] = record.outcomes
    for path, share in record.skills.items():
        view.skill(path).measure(record.split, share)
    view.count(record.tallies)
    view.note_levels()


@says(Ablated)
def _ablated(record: Ablated) -> Said:
    parts = [
        f"{what} {interval(score) if score else 'without a score'}"
        for what, score in (("bare", record.bare), ("with the old program", record.old))
    ]
    if record.variant is None:
        parts.append("no program was found beside them")
    else:
        score = interval(record.searched) if record.searched else "without a score"
        parts.append(
            f"with {line(record.variant)}, {'promoted' if record.promoted else 'not promoted'}, {score}"
        )
    return f"The new weights of {line(record.weights)}: {'; '.join(parts)}", "weights"


@folds(Ablated)
def _ablate(view: RunView, record: Ablated, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.ablations.append(seq)


@says(SealedOpened)
def _opened(record: SealedOpened) -> Said:
    return (
        f"Opened the sealed split, access {record.count}: {counted(record.tasks, 'task')} for {line(record.variant)}",
        "quiet",
    )


@folds(SealedOpened)
def _open(view: RunView, record: SealedOpened, seq: int, at: float) -> None:
    view.sealed_accesses = record.count


@says(Attempted)
def _attempted(record: Attempted) -> Said:
    attempts = sum(tally.attempts for tally in record.tallies)
    successes = sum(tally.successes for tally in record.tallies)
    counts: dict[str, int] = {}
    for tally in record.tallies:
        for kind, count in tally.failures.items():
            counts[kind] = counts.get(kind, 0) + count
    through = "through the program" if record.source == "program" else "by the bare policy"
    if record.stage == AGAIN_STAGE:
        through += " at tasks that it had failed"
    return f"{successes:,} of {attempts:,} attempts right {through}{failures(counts)}", "plain"


@folds(Attempted)
def _attempt(view: RunView, record: Attempted, seq: int, at: float) -> None:
    view.generated += record.tokens
    if record.stage == AGAIN_STAGE:
        return
    view.practice.append(record)
    for tally in record.tallies:
        skill = view.skill(tally.skill)
        skill.attempts += tally.attempts
        skill.successes += tally.successes
        skill.try_level(record.source, tally)
    if record.source == "program":
        view.count(record.tallies)


@says(Trained)
def _trained(record: Trained) -> Said:
    return (
        f"Trained {record.step}/{record.steps}: loss {record.loss:.3f}, "
        f"gradient {record.gradient_norm:.2f}, rate {record.learning_rate:.1e}",
        "quiet",
    )


@folds(Trained)
def _train(view: RunView, record: Trained, seq: int, at: float) -> None:
    view.loss = record.loss
    view.trained += record.tokens
    view.losses.append(record, seq)


def failures(counts: dict[str, int]) -> str:
    """Failures other than wrong answers, by type: `; 2 timeout`."""
    named = [f"{count:,} {line(kind)}" for kind, count in sorted(counts.items()) if count and kind != "wrong"]
    return "; " + ", ".join(named) if named else ""


@says(Nulls)
def _nulls(record: Nulls) -> Said:
    names = {"greedy": "the bare policy", "self_consistency": "self-consistency", "best_of": "the best"}
    paired = ", ".join(
        f"{gain(each.gain)} [{gain(each.low)}, {gain(each.high)}] over {names[name]}"
        for name in names
        if (each := record.over.get(name)) is not None
    )
    return (
        f"At the champion's budget ({counted(record.samples, 'sample')} a task): {line(record.variant)} "
        f"{interval(record.champion)}, the bare policy {interval(record.greedy)}, self-consistency "
        f"{interval(record.self_consistency)}, best of {record.samples} by the grader {interval(record.best_of)}"
        + (f"; task by task {paired}" if paired else ""),
        "curve",
    )


@folds(Nulls)
def _null(view: RunView, record: Nulls, seq: int, at: float) -> None:
    view.generated += record.tokens
    view.nulls = record
