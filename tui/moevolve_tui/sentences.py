"""Every record as one sentence for the event log."""

from collections.abc import Mapping

from moevolve.records import (
    Attempted,
    Chosen,
    CycleFinished,
    CycleStarted,
    Evaluated,
    Gated,
    Guarded,
    Learned,
    Metered,
    Proposed,
    Record,
    RolledBack,
    RunFinished,
    RunStarted,
    Screened,
    Trained,
    VariantAdded,
)
from moevolve_tui.drawing.lines import Tone
from moevolve_tui.figures import amount, counted, gain, interval, score
from moevolve_tui.untrusted import plain

_DECISIONS = {"promote": "PROMOTED", "archive": "Kept in the archive:", "discard": "Discarded", "void": "Undecided:"}


def short(name: str) -> str:
    """An identity as the panes show it: at most 12 characters."""
    name = plain(name)
    return name if len(name) <= 12 else name[:11] + "…"


def _failures(failures: Mapping[str, int]) -> str:
    named = [
        f"{count:,} {plain(kind)}" for kind, count in sorted(failures.items()) if count and kind != "wrong"
    ]
    return "; " + ", ".join(named) if named else ""


def sentence(record: Record) -> tuple[str, Tone]:
    """What happened, and in which tone to say it."""
    match record:
        case RunStarted():
            return (
                f"Run {short(record.run)} starts: seed {record.seed}, arm {record.arm}, "
                f"{counted(len(record.skills), 'skill')} of {plain(record.suite)}, "
                + (f"{amount(record.parameters)} parameters" if record.parameters else plain(record.weights)),
                "head",
            )
        case VariantAdded(level="seed"):
            return f"Seed variant {short(record.variant)}", "quiet"
        case VariantAdded():
            parent = f" from {short(record.parents[0])}" if record.parents else ""
            return f"New {record.level} variant {short(record.variant)}{parent}: {_what(record)}", "quiet"
        case Evaluated():
            when = {"initial": "before", "cycle": f"after cycle {record.cycle}", "final": "at the end"}[
                record.when
            ]
            return (
                f"{record.split.capitalize()} score {when}: {interval(record.score)} "
                f"on {counted(record.score.n, 'task')}",
                "sealed" if record.split == "sealed" else "curve",
            )
        case CycleStarted():
            return f"Cycle {record.cycle} starts from {short(record.champion)}", "head"
        case Attempted():
            attempts = sum(tally.attempts for tally in record.tallies)
            successes = sum(tally.successes for tally in record.tallies)
            failures: dict[str, int] = {}
            for tally in record.tallies:
                for kind, count in tally.failures.items():
                    failures[kind] = failures.get(kind, 0) + count
            through = "through the program" if record.source == "program" else "by the bare policy"
            return f"{successes:,} of {attempts:,} attempts right {through}{_failures(failures)}", "plain"
        case Learned():
            return (
                f"Kept {counted(record.lessons, 'lesson')} and "
                f"{counted(record.confirmed, 'confirmed answer')}; {record.buffer:,} in the buffer",
                "plain",
            )
        case Trained():
            return (
                f"Trained {record.step}/{record.steps}: loss {record.loss:.3f}, "
                f"gradient {record.gradient_norm:.2f}, rate {record.learning_rate:.1e}",
                "quiet",
            )
        case Proposed():
            files = ", ".join(plain(name) for name in record.files)
            return (
                f"Candidate {short(record.variant)} ({record.level}): {_what(record)}"
                + (f" [{files}]" if files else ""),
                "quiet",
            )
        case Screened():
            fate = "goes to the gate" if record.passed else "stays out"
            return (
                f"{short(record.variant)} screened {score(record.score)} against {score(record.baseline)} "
                f"on {counted(record.n, 'task')}: {fate}{_failures(record.failures)}",
                "plain" if record.passed else "quiet",
            )
        case Gated():
            vetoes = (
                f"; vetoed by {', '.join(plain(skill) for skill in record.vetoes)}" if record.vetoes else ""
            )
            reason = "" if record.decision == "promote" else f"; {plain(record.reason)}"
            return (
                f"{_DECISIONS[record.decision]} {record.level} {short(record.candidate)}: "
                f"{gain(record.gain)} on {counted(record.n, 'paired task')} "
                f"({record.wins} won, {record.losses} lost){vetoes}{reason}",
                "good" if record.decision == "promote" else "warn" if record.decision == "archive" else "bad",
            )
        case Chosen():
            others = (
                f"{counted(len(record.not_chosen), 'other')} passed"
                if record.not_chosen
                else "no other passed"
            )
            return (
                f"Chosen for the gate: {short(record.chosen) if record.chosen else 'none'}; {others}",
                "plain",
            )
        case RolledBack():
            return (
                f"Rolled back from {short(record.before)} to {short(record.champion)}: {plain(record.reason)}",
                "warn",
            )
        case Guarded():
            detail = f": {plain(record.detail)}" if record.detail else ""
            return (
                f"Guard {plain(record.guard)} vetoed {record.vetoed} of {record.checked}{detail}",
                "bad" if record.vetoed else "quiet",
            )
        case CycleFinished():
            return (
                f"Cycle {record.cycle} done: champion {short(record.champion)}, "
                f"{counted(record.variants, 'variant')}, {counted(record.lessons, 'lesson')}",
                "head",
            )
        case Metered():
            failed = sum(record.failures.values())
            cost = f", {record.cost} {plain(record.currency)}" if record.cost is not None else ""
            return (
                f"Asked the server for {plain(record.stage)}: {counted(record.requests, 'request')}, "
                f"{record.prompt_tokens + record.completion_tokens:,} tokens{cost}"
                + (f"; {failed:,} failed" if failed else ""),
                "quiet",
            )
        case RunFinished():
            return (
                f"Run finished after {counted(record.cycles, 'cycle')}; champion {short(record.champion)}",
                "head",
            )


def _what(record: VariantAdded | Proposed) -> str:
    operator, summary = plain(record.operator), plain(record.summary)
    return f"{operator}, {summary}" if operator and summary and operator != summary else operator or summary
