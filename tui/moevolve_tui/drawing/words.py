"""Figures and fates in the words that every page uses."""

from __future__ import annotations

from moevolve.journal.figures import UNKNOWN, gain, interval, number, score
from moevolve.journal.kinds import Tone
from moevolve.journal.scores import Gain, Point
from moevolve.journal.variants import Fate
from moevolve.records import Interval
from moevolve_tui.model import RunModel

STATUS: dict[str, tuple[str, Tone]] = {
    "waiting": ("○", "warn"),
    "running": ("●", "good"),
    "paused": ("◐", "warn"),
    "finished": ("✔", "good"),
    "failed": ("✗", "bad"),
    "stopped": ("■", "bad"),
    "deleted": ("✗", "bad"),
}
FATES: dict[Fate, tuple[str, Tone]] = {
    "seed": ("●", "head"),
    "proposed": ("…", "quiet"),
    "screened": ("…", "quiet"),
    "chosen": ("…", "warn"),
    "not chosen": ("◌", "quiet"),
    "not screened": ("◌", "faint"),
    "screened out": ("·", "faint"),
    "promoted": ("✔", "good"),
    "kept": ("○", "warn"),
    "discarded": ("✗", "bad"),
    "undecided": ("?", "warn"),
    "rolled back": ("↶", "bad"),
    "waiting": ("◐", "warn"),
    "vetoed": ("⊘", "bad"),
    "refused": ("✗", "bad"),
    "failed": ("✗", "bad"),
}
"""Fate -> mark and tone. The word stands beside the mark wherever there is room."""


def ends(low: float, high: float) -> str:
    """An interval of a difference: `[+.27, +.39]`."""
    return f"[{gain(low, 2)}, {gain(high, 2)}]"


def change(found: Gain | None) -> tuple[str, Tone]:
    """A gain with its interval, toned only where the interval leaves zero."""
    if found is None:
        return UNKNOWN, "quiet"
    low, high = found.interval
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else "plain"
    return f"{gain(found.gain)} {ends(low, high)}", tone


def half(value: Interval) -> str:
    """Mean and half width, two digits: `.80 ±.04`."""
    return f"{score(value.mean)} ±{score((value.high - value.low) / 2)}"


def point(found: Point | None) -> str:
    """A score with its interval and its number of tasks."""
    return UNKNOWN if found is None else f"{interval(found.score)} n={found.score.n:,}"


def rating(value: float | None) -> str:
    """An evaluator's number in six digits: it is in no unit that we know."""
    return number(value)


def difference(value: float) -> str:
    """A difference of two of an evaluator's numbers, signed."""
    return number(value, "+.6g")


def chance(value: float) -> str:
    """A probability in four digits."""
    return number(value, ".4f")


def sureness(model: RunModel) -> str:
    """How sure the champion's score is, in words."""
    ratings = model.view.ratings
    if not ratings.promoted:
        return "one evaluation"
    if ratings.p is None:
        return "the same score twice" if not ratings.noisy else f"mean of {ratings.fresh}"
    return f"mean of {ratings.fresh} fresh evaluations, p {chance(ratings.p)}"


def next_steps(model: RunModel) -> list[tuple[str, str]]:
    """What may be done with a run as it stands: (key, words)."""
    waiting = model.view.waiting
    steps: list[tuple[str, str]] = []
    if model.fault:
        return [("0", "choose another run"), ("9", "read the log")]
    if waiting and model.status != "deleted":
        steps += [("A", f"approve {waiting[0]}"), ("R", f"reject {waiting[0]}")]
    match model.status:
        case "finished":
            if model.view.changes:
                steps.append(("4", "see what was promoted"))
            steps.append(("h", "write the report page"))
            if not model.optimises:
                steps.append(("v", "how to serve it"))
        case "failed" | "stopped" | "paused":
            steps += [("p", "resume"), ("9", "read the log")]
        case "running":
            steps += [("p", "pause after this cycle"), ("P", "stop")]
        case "deleted":
            steps.append(("0", "choose another run"))
        case _:
            steps.append(("0", "the runs"))
    return steps
