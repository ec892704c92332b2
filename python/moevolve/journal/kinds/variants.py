"""What became of variants: proposals, screening, the choice, the gate, rollbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moevolve.journal.figures import counted, gain, score
from moevolve.journal.kinds.registry import Said, Tone, folds, says
from moevolve.journal.kinds.scores import failures
from moevolve.journal.text import line
from moevolve.journal.variants import Fate
from moevolve.records import (
    Chosen,
    Gated,
    Level,
    Proposed,
    ProposerAsked,
    RolledBack,
    Screened,
    Selected,
    VariantAdded,
)

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

_DECISIONS: dict[str, tuple[str, Fate, Tone]] = {
    "promote": ("PROMOTED", "promoted", "good"),
    "archive": ("Kept in the archive:", "kept", "warn"),
    "discard": ("Discarded", "discarded", "bad"),
    "void": ("Undecided:", "undecided", "warn"),
    "hold": ("Waits for approval:", "waiting", "warn"),
    "veto": ("VETOED", "vetoed", "bad"),
}


def fate_of(decision: str) -> Fate:
    """What becomes of a candidate of which so was decided: the word that every reader uses."""
    return _DECISIONS[decision][1]


def what(record: VariantAdded | Proposed) -> str:
    """What a variant changes, with the operator that made it."""
    operator, summary = line(record.operator), line(record.summary)
    return f"{operator}, {summary}" if operator and summary and operator != summary else operator or summary


@says(VariantAdded)
def _added(record: VariantAdded) -> Said:
    if record.level == "seed":
        return f"Seed variant {line(record.variant)}", "quiet"
    parents = " and ".join(line(parent) for parent in record.parents)
    origin = f" from {parents}" if parents else ""
    return f"New {record.level} variant {line(record.variant)}{origin}: {what(record)}", "quiet"


@folds(VariantAdded)
def _add(view: RunView, record: VariantAdded, seq: int, at: float) -> None:
    view.variants.add(record, seq)


@says(Proposed)
def _proposed(record: Proposed) -> Said:
    files = ", ".join(line(name) for name in record.files)
    return (
        f"Candidate {line(record.variant)} ({record.level}): {what(record)}"
        + (f" [{files}]" if files else ""),
        "quiet",
    )


@folds(Proposed)
def _propose(view: RunView, record: Proposed, seq: int, at: float) -> None:
    view.proposed[record.level] += 1
    view.accounts.take(record)
    row = view.variants.row(record.variant)
    if row is not None and record.level == "program":
        view.undecided.append(row)


@says(Selected)
def _selected(record: Selected) -> Said:
    chance = "" if record.chance is None else f", as it does with probability {record.chance:.2f}"
    if record.selector:
        whose = f"select_parent.py of {line(record.selector)}"
        if record.fault:
            failed = (
                f"{line(record.policy)} selects {line(record.variant)} as a parent{chance}: {whose} failed"
            )
            return f"{failed} ({line(record.fault)})", "warn"
        return f"{whose} selects {line(record.variant)} as a parent", "quiet"
    if record.action == "expand":
        return f"{line(record.policy)} selects {line(record.variant)} as a parent{chance}", "quiet"
    n = sum(share.n for share in record.skills.values())
    mean = sum(share.score * share.n for share in record.skills.values()) / max(1, n)
    return (
        f"{line(record.policy)} evaluates {line(record.variant)} once more: {score(mean)} on {counted(n, 'task')}",
        "quiet",
    )


@folds(Selected)
def _select(view: RunView, record: Selected, seq: int, at: float) -> None:
    view.generated += record.tokens


@says(ProposerAsked)
def _asked(record: ProposerAsked) -> Said:
    parts = [f"{record.made:,} of {counted(record.asked, 'candidate')}"]
    if record.repeats:
        parts.append(f"{record.repeats:,} there already")
    if record.broken:
        parts.append(f"{len(record.broken):,} that do not work ({line(record.broken[0])})")
    if record.failure is not None:
        parts.append(f"{line(record.failure)}: {line(record.detail)}")
    took = f"; {counted(record.requests, 'request')}, {record.tokens:,} tokens" if record.requests else ""
    return (
        f"Proposer {line(record.proposer)}: {', '.join(parts)}{took}",
        "warn" if record.failure else "quiet",
    )


@folds(ProposerAsked)
def _ask(view: RunView, record: ProposerAsked, seq: int, at: float) -> None:
    view.accounts.take(record)


@says(Screened)
def _screened(record: Screened) -> Said:
    fate = "passes" if record.passed else "void, too few answers" if record.void else "stays out"
    return (
        f"{line(record.variant)} screened {score(record.score)} against {score(record.baseline)} "
        f"on {counted(record.n, 'task')}: {fate}{failures(record.failures)}",
        "plain" if record.passed else "quiet",
    )


@folds(Screened)
def _screen(view: RunView, record: Screened, seq: int, at: float) -> None:
    view.screened += 1
    view.accounts.take(record)
    row = view.variants.row(record.variant)
    if row is not None:
        view.variants.screen(row, record.score)
        if view.variants.fate(row) == "proposed":
            view.variants.settle(row, "screened" if record.passed else "screened out")


@says(Chosen)
def _chosen(record: Chosen) -> Said:
    passed = f"{counted(len(record.not_chosen), 'other')} passed" if record.not_chosen else ""
    without = f"{len(record.unscreened):,} without a score yet" if record.unscreened else ""
    rest = ", ".join(part for part in (passed, without) if part)
    chosen = f"{line(record.chosen)} goes to the gate" if record.chosen else "No candidate goes to the gate"
    if record.gain is not None:
        chosen += f", {gain(record.gain)} expected of it"
    return chosen + (f"; {rest}" if rest else ""), "plain" if record.chosen else "quiet"


@folds(Chosen)
def _choose(view: RunView, record: Chosen, seq: int, at: float) -> None:
    view.generated += record.tokens
    settled: list[tuple[Fate, list[str]]] = [
        ("chosen", [record.chosen] if record.chosen else []),
        ("not chosen", record.not_chosen),
        ("not screened", record.unscreened),
    ]
    for fate, names in settled:
        for name in names:
            if (row := view.variants.row(name)) is not None:
                view.variants.settle(row, fate)
    view.close_generation()


@says(Gated)
def _gated(record: Gated) -> Said:
    words, _, tone = _DECISIONS[record.decision]
    against = [*record.vetoes, *record.guards]
    vetoes = f"; vetoed by {', '.join(line(each) for each in against)}" if against else ""
    reason = "" if record.decision == "promote" else f"; {line(record.reason)}"
    return (
        f"{words} {record.level} {line(record.candidate)}: "
        f"{gain(record.gain)} on {counted(record.n, 'paired task')} "
        f"({record.wins} won, {record.losses} lost){vetoes}{reason}",
        tone,
    )


@folds(Gated)
def _gate(view: RunView, record: Gated, seq: int, at: float) -> None:
    view.generated += record.tokens or 0
    view.gates.append(seq)
    view.accounts.take(record)
    if record.spent is not None:
        view.error_spent = record.spent
    view.decisions[record.level][1] += 1
    row = view.variants.row(record.candidate)
    if row is not None:
        view.variants.settle(row, fate_of(record.decision))
        view.variants.decide(row, record.gain, record.n)
    if record.decision == "hold":
        view.waiting.append(record.candidate)
    if record.decision == "promote":
        promote(view, record.cycle, record.level, record.candidate, seq)


def promote(view: RunView, cycle: int, level: Level, variant: str, seq: int) -> None:
    """Makes a variant the champion, by the gate or by a person's approval."""
    view.decisions[level][0] += 1
    view.promotions.append((cycle, level))
    view.crown(variant, seq)
    # What was counted for the champion before says less about this one.
    view.fade()


@says(RolledBack)
def _rolled_back(record: RolledBack) -> Said:
    return f"Rolled back from {line(record.before)} to {line(record.champion)}: {line(record.reason)}", "warn"


@folds(RolledBack)
def _roll_back(view: RunView, record: RolledBack, seq: int, at: float) -> None:
    row = view.variants.row(record.before)
    if row is not None and view.variants.fate(row) == "promoted":
        view.variants.settle(row, "rolled back")
    view.rollbacks += 1
    view.crown(record.champion, seq)
    view.fade()
