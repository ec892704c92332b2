"""The lines at the top: which run, how far, how good and how sure, what is being done; a fault has lines of its own."""

from __future__ import annotations

import textwrap

from moevolve.journal.drawing.lines import Line, fit, spread, width_of
from moevolve.journal.figures import duration, gain, interval
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve_tui.drawing.rows import middle
from moevolve_tui.drawing.words import STATUS, ends, rating, sureness
from moevolve_tui.model import RunModel

_BAR = 10
FAULT_LINES = 3


def heading_lines(
    model: RunModel | None, seconds: float, width: int, *, frozen: bool = False, replay: str = ""
) -> list[Line]:
    """Two lines always, then what is being done, then faults wrapped."""
    if model is None:
        return [fit([("Moevolve", "head"), ("  no run yet", "quiet")], width), fit([], width)]
    lines = [_identity(model, seconds, width, frozen, replay), fit(_standing(model, width), width)]
    if model.loading:
        lines.append(fit([(f"loading {model.entries:,} of {model.total:,} records", "warn")], width))
    elif model.status == "running" and model.stage and not replay:
        lines.append(fit([(model.stage, "quiet")], width))
    elif model.fault:
        # What cannot be read cannot be resumed either.
        pass
    elif model.status == "stopped":
        lines.append(fit([("stopped before its end; `moevolve resume` goes on (p)", "warn")], width))
    elif model.status == "paused":
        waits = (
            f"{line(model.view.waiting[0], 12)} waits: A approve, R reject; then "
            if model.view.waiting
            else ""
        )
        lines.append(fit([(f"paused; {waits}`moevolve resume` goes on (p)", "warn")], width))
    for words in (model.fault, model.notice, model.error if model.status == "failed" else ""):
        lines += [[(each, "bad")] for each in wrapped(words, width)]
    return [fit(each, width) for each in lines]


def wrapped(words: str, width: int) -> list[str]:
    """Words on at most `FAULT_LINES` lines."""
    pieces = (
        [each for part in words.split("\n") for each in textwrap.wrap(part, max(10, width))] if words else []
    )
    if len(pieces) > FAULT_LINES:
        pieces = [*pieces[: FAULT_LINES - 1], pieces[FAULT_LINES - 1][: max(1, width - 1)] + "…"]
    return pieces


def _identity(model: RunModel, seconds: float, width: int, frozen: bool, replay: str) -> Line:
    dot, tone = STATUS[model.status]
    left: Line = [(f"{dot} {model.status}", tone)]
    if replay:
        left = [(replay, "warn")]
    elif frozen:
        left.append((f" frozen, {max(0, model.total - model.entries):,} new", "warn"))
    view = model.view
    right: Line = []
    tail: Line = []
    if started := view.started:
        of = f"/{view.planned}" if view.planned and view.planned >= view.cycle else ""
        at = f"cycle {view.cycle}{of}"
        if model.optimises:
            at = f"{view.ratings.evaluations:,} evaluations"
        right = [
            (f" {at} ", "plain"),
            *_progress(model, bool(replay)),
            (f" {duration(seconds)}", "plain"),
        ]
        if model.eta is not None and not replay:
            right.append((f" +{duration(model.eta)}", "quiet"))
        tail = [(f"  {started.arm}, seed {started.seed}", "quiet")]
        if width_of(left) + width_of(tail) + width_of(right) + 14 > width:
            tail = []
    room = max(4, width - width_of(left) - width_of(right) - width_of(tail) - 3)
    left += [(f"  {middle(model.name, room)}", "head"), *tail]
    return spread(left, right, width)


def _progress(model: RunModel, replay: bool) -> Line:
    done = 1.0 if model.status == "finished" else model.done
    if replay and model.total:
        done = model.entries / model.total
    if done is None or done != done:
        return []
    full = round(min(1.0, max(0.0, done)) * _BAR)
    return [("━" * full, "good"), ("─" * (_BAR - full), "faint")]


def _standing(model: RunModel, width: int) -> Line:
    """`Dev .470 > .799 ±.040, +.329 [+.27, +.39]. Sealed .473 ±.025, again at the end.`, what fits of it."""
    view = model.view
    if model.optimises:
        return _rated(model)
    dev, newest = view.point("dev"), view.point("dev", newest=True)
    sealed, final = view.point("sealed"), view.point("sealed", newest=True)
    first: Line = []
    second: Line = []
    if final is not None and sealed is not None:
        second = [("Sealed ", "quiet"), (f"{interval(sealed.score)} > {interval(final.score)}", "sealed")]
        if found := view.sealed_gain:
            second.append((f", {gain(found.gain)} {ends(*found.interval)}", _tone(found.interval)))
        second.append((f" n={final.score.n:,}. ", "quiet"))
    elif sealed is not None:
        again = "." if view.finished else ", again at the end."
        second = [("Sealed ", "quiet"), (interval(sealed.score), "sealed"), (again, "quiet")]
    if dev is not None:
        first = [("Dev ", "quiet"), (interval(dev.score), "curve")]
        if newest is not None and (found := view.dev_gain):
            first.append((f" > {interval(newest.score)}", "curve"))
            first.append((f", {gain(found.gain)} {ends(*found.interval)}", _tone(found.interval)))
        first.append((f" n={(newest or dev).score.n:,}. ", "quiet"))
    parts = [second, first] if final is not None else [first, second]
    if width_of(parts[0]) + width_of(parts[1]) > width and parts[0]:
        return parts[0]
    return [*parts[0], *parts[1]] or [("no score yet: the sealed test comes first", "quiet")]


def _rated(model: RunModel) -> Line:
    """`Score .31 > .87, mean of 8 fresh evaluations, p .0031. 3 of 5 promoted, 4 of 80 evaluations failed.`"""
    ratings = model.view.ratings
    if not ratings.evaluations:
        return [("no score yet: the initial program comes first", "quiet")]
    first, now = rating(ratings.first), rating(ratings.champion)
    scores = f"{first} > {now}" if ratings.promoted else now
    failed = sum(ratings.failures.values())
    counts = f". {ratings.promoted:,} of {ratings.decided:,} decisions promoted"
    counts += f", {failed:,} of {ratings.evaluations:,} evaluations failed."
    sure = f", {sureness(model)}"
    return [("Score ", "quiet"), (scores, "curve"), (sure, "plain"), (counts, "quiet")]


def _tone(found: tuple[float, float]) -> Tone:
    return "good" if found[0] > 0 else "bad" if found[1] < 0 else "plain"
