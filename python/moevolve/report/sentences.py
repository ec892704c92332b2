"""Every record as one sentence of plain text, for progress lines and event lists."""

from __future__ import annotations

from collections.abc import Iterable

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
    Tally,
    Trained,
    VariantAdded,
)

_SPLITS = {"initial": "sealed score before", "cycle": "dev score", "final": "sealed score after"}
_DECISIONS = {
    "promote": "promoted",
    "archive": "kept in the archive",
    "discard": "discarded",
    "void": "undecided",
}


def plain(text: str) -> str:
    """Text that programs or users chose, without line breaks or terminal control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def duration(seconds: float) -> str:
    """`45 s`, `8:05` or `1:02:03`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(number: int) -> str:
    """`950`, `12.3k`, `4.56M`, `7.89G`."""
    if number < 10**4:
        return f"{number:,}"
    for bound, unit in ((10**3, "k"), (10**6, "M")):
        # From 999.5 on, three digits round up to the next unit.
        if number < 999.5 * bound:
            return f"{number / bound:.3g}{unit}"
    return f"{number / 10**9:.3g}G" if number < 999.5 * 10**9 else f"{number / 10**9:,.0f}G"


def sentence(record: Record) -> str:
    """What happened."""
    match record:
        case RunStarted():
            return (
                f"run {plain(record.run)}: seed {record.seed}, arm {record.arm}, suite {plain(record.suite)} "
                f"({len(record.skills)} skills), "
                + (f"{amount(record.parameters)} parameters" if record.parameters else plain(record.weights))
            )
        case VariantAdded():
            return f"new variant {record.variant}: {_made(record.operator, record.summary)}"
        case Evaluated():
            score = record.score
            interval = f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
            return f"{_SPLITS[record.when]} {interval} on {score.n} tasks"
        case CycleStarted():
            return f"cycle {record.cycle} starts from {record.champion}"
        case Attempted():
            tries, right = _sum(record.tallies)
            how = "through the program" if record.source == "program" else "by the bare policy"
            return f"{right:,} of {tries:,} attempts right {how}{_failures(record.tallies)}"
        case Learned():
            kept = f"kept {record.confirmed:,} confirmed answers and {record.lessons:,} lessons"
            return f"{kept}; {record.buffer:,} to train on"
        case Trained():
            return f"trained {record.step}/{record.steps} steps, loss {record.loss:.3f}"
        case Proposed():
            return f"proposed {record.variant} ({record.level}): {_made(record.operator, record.summary)}"
        case Screened():
            verdict = "goes on" if record.passed else "stays behind"
            return f"screened {record.variant}: {record.score:.3f} against {record.baseline:.3f}, {verdict}"
        case Gated():
            vetoes = (
                f"; vetoed by {', '.join(plain(path) for path in record.vetoes)}" if record.vetoes else ""
            )
            return (
                f"gate, {record.level}: {record.candidate} {_DECISIONS[record.decision]}, "
                f"gain {record.gain:+.3f} on {record.n} tasks ({plain(record.reason)}){vetoes}"
            )
        case Chosen():
            rest = f"{len(record.not_chosen)} others passed, {len(record.unscreened)} have no score yet"
            return f"chosen for the gate: {record.chosen or 'none'} ({rest})"
        case RolledBack():
            return f"rolled back from {record.before} to {record.champion} ({plain(record.reason)})"
        case Guarded():
            return f"guard {plain(record.guard)}: {record.vetoed:,} of {record.checked:,} vetoed"
        case CycleFinished():
            done = f"cycle {record.cycle} done: champion {record.champion}"
            return f"{done}, {record.variants} variants, {record.lessons:,} lessons"
        case Metered():
            return f"asked the server for {plain(record.stage)}: {charged(record)}"
        case RunFinished():
            return f"run finished after {record.cycles} cycles, champion {record.champion}"


def charged(record: Metered) -> str:
    """What a server did and took, such as `12 requests, 1,024 tokens, 0.0012 USD, 1 failed (timeout)`."""
    parts = [f"{record.requests:,} requests", f"{record.prompt_tokens + record.completion_tokens:,} tokens"]
    if record.cost is not None:
        parts.append(f"{record.cost} {plain(record.currency)}")
    if record.unmetered:
        parts.append(f"{record.unmetered:,} calls without usage figures")
    retried = sum(record.faults.values()) - sum(record.failures.values())
    if retried > 0:
        parts.append(f"{retried:,} calls made again")
    if record.failures:
        kinds = ", ".join(f"{count:,} {plain(kind)}" for kind, count in sorted(record.failures.items()))
        parts.append(f"failed: {kinds}")
    return ", ".join(parts)


def _made(operator: str, summary: str) -> str:
    operator, summary = plain(operator), plain(summary)
    return f"{operator}: {summary}" if operator and summary and operator != summary else summary or operator


def _sum(tallies: Iterable[Tally]) -> tuple[int, int]:
    found = list(tallies)
    return sum(tally.attempts for tally in found), sum(tally.successes for tally in found)


def _failures(tallies: Iterable[Tally]) -> str:
    counts: dict[str, int] = {}
    for tally in tallies:
        for kind, count in tally.failures.items():
            if kind != "wrong":
                counts[kind] = counts.get(kind, 0) + count
    named = ", ".join(f"{count:,} {plain(kind)}" for kind, count in sorted(counts.items()) if count)
    return f" ({named})" if named else ""
