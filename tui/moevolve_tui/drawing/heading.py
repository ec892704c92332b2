"""The two lines at the top: which run, how it stands, how far it is."""

from __future__ import annotations

from moevolve.journal.drawing.lines import Line, spread, width_of
from moevolve.journal.figures import amount, counted, duration, gain, interval
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve_tui.model import RunModel

STATUS: dict[str, tuple[str, Tone]] = {
    "waiting": ("○", "warn"),
    "running": ("●", "good"),
    "paused": ("◐", "warn"),
    "finished": ("✔", "good"),
    "failed": ("✗", "bad"),
    "stopped": ("■", "bad"),
}
_BAR = 10


def heading_lines(model: RunModel, seconds: float, width: int, fault: str = "") -> list[Line]:
    """Run, arm, status and progress; below it the score with its interval, and what is being done."""
    return [_identity(model, seconds, width), _standing(model, width, fault)]


def _identity(model: RunModel, seconds: float, width: int) -> Line:
    dot, tone = STATUS[model.status]
    left: Line = [(f"{dot} {model.status}", tone)]
    if model.run:
        left.append((f"  {line(model.run, 12)}", "head"))
    right: Line = []
    view = model.view
    if started := view.started:
        left.append((f"  {started.arm}  seed {started.seed}", "quiet"))
        if width >= 110:
            left.append((f"  {line(started.suite)}, {amount(started.parameters)} parameters", "quiet"))
        of = f"/{view.planned}" if view.planned else ""
        right = [
            (f"cycle {view.cycle}{of} ", "plain"),
            *_progress(model),
            (f" {duration(seconds)}", "plain"),
        ]
        if model.eta is not None:
            right.append((f" eta {duration(model.eta)}", "quiet"))
    return spread(left, right, width)


def _progress(model: RunModel) -> Line:
    done = 1.0 if model.status == "finished" else model.done
    if done is None:
        return []
    full = round(min(1.0, max(0.0, done)) * _BAR)
    return [("━" * full, "good"), ("━" * (_BAR - full), "faint")]


def _standing(model: RunModel, width: int, fault: str) -> Line:
    if fault:
        return spread([(line(fault), "bad")], [], width)
    if model.status == "waiting":
        return spread(
            [
                (
                    line(model.stage) or "Waiting for the run to start; this view follows as soon as it does",
                    "warn",
                )
            ],
            [],
            width,
        )
    view = model.view
    left: Line = []
    sealed, final, dev = view.point("sealed"), view.point("sealed", newest=True), view.point("dev")
    if sealed:
        left += [("sealed ", "quiet"), (interval(sealed.score), "sealed")]
    if final:
        left += [(" → ", "quiet"), (interval(final.score), "sealed")]
    elif dev:
        newest = view.point("dev", newest=True) or dev
        left += [("  dev ", "quiet"), (interval(newest.score), "curve")]
    # A gain is between two scores of one split.
    if change := view.sealed_gain if final else view.dev_gain:
        left.append((f" {gain(change.gain)}", "good" if change.gain > 0 else "bad"))
    for level, (accepted, decided) in view.decisions.items():
        if decided:
            left += [(f"  {level[0]} ", "quiet"), (f"{accepted}/{decided}", level)]
    if alarms := sum(counts.alarms for counts in view.guards.values()):
        left.append((f"  {counted(alarms, 'alarm')}", "bad"))
    if width >= 110 and view.generated:
        left.append((f"  {amount(view.generated)} tokens  {amount(view.lessons)} lessons", "quiet"))
    stage = model.error if model.status == "failed" and model.error else model.stage
    if model.status == "stopped":
        stage = "`moevolve resume` goes on"
    if model.status == "paused":
        waiting = f"`moevolve approve` or `reject` {line(view.waiting[0], 12)}, then " if view.waiting else ""
        stage = f"{waiting}`moevolve resume` goes on"
    if model.status == "finished":
        stage = ""
    room = width - width_of(left) - 2
    right: Line = (
        [(stage if len(stage) <= room else stage[: max(0, room - 1)] + "…", "quiet")] if room > 6 else []
    )
    return spread(left, right, width)
