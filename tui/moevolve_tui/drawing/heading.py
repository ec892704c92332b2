"""The two lines at the top: which run, how it stands, how far it is."""

from moevolve_tui.drawing.lines import Line, Tone, spread, width_of
from moevolve_tui.figures import amount, duration, gain, interval
from moevolve_tui.model import RunModel
from moevolve_tui.sentences import short

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
        left.append((f"  {short(model.run)}", "head"))
    if model.arm:
        left.append((f"  {model.arm}  seed {model.seed}", "quiet"))
        if width >= 110:
            left.append((f"  {model.suite}, {amount(model.parameters)} parameters", "quiet"))
    right: Line = []
    if model.arm:
        of = f"/{model.planned}" if model.planned else ""
        right = [
            (f"cycle {model.cycle}{of} ", "plain"),
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
        return spread([(fault, "bad")], [], width)
    if model.status == "waiting":
        return spread(
            [(model.stage or "Waiting for the run to start; this view follows as soon as it does", "warn")],
            [],
            width,
        )
    left: Line = []
    initial, latest = model.initial(), model.latest()
    if initial:
        left += [("sealed ", "quiet"), (interval(initial), "sealed")]
    if latest:
        label = " → " if latest.split == "sealed" else "  dev "
        left += [
            (label, "quiet"),
            (interval(latest.score), "sealed" if latest.split == "sealed" else "curve"),
        ]
        if initial:
            change = latest.score.mean - initial.mean
            left.append((f" {gain(change)}", "good" if change > 0 else "bad"))
    for level, (accepted, decided) in model.decisions.items():
        if decided:
            left += [
                (f"  {level[0]} ", "quiet"),
                (f"{accepted}/{decided}", "weights" if level == "weights" else "program"),
            ]
    if width >= 110 and model.generated:
        left.append((f"  {amount(model.generated)} tokens  {amount(model.lessons)} lessons", "quiet"))
    stage = model.error if model.status == "failed" and model.error else model.stage
    if model.status == "stopped":
        stage = "`moevolve resume` goes on"
    if model.status == "finished":
        stage = ""
    room = width - width_of(left) - 2
    right: Line = (
        [(stage if len(stage) <= room else stage[: max(0, room - 1)] + "…", "quiet")] if room > 6 else []
    )
    return spread(left, right, width)
