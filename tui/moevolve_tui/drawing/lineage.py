"""The lineage: every variant the run made, rejected ones too, newest first."""

from __future__ import annotations

from moevolve.journal.drawing.lines import Line, fit, spread
from moevolve.journal.figures import counted, gain, score
from moevolve.journal.kinds import Tone
from moevolve.journal.text import line
from moevolve.journal.variants import Fate
from moevolve.journal.view import RunView

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
}
"""Fate -> mark and tone. The mark alone tells them apart, for those who see no colour."""


def variant_line(view: RunView, row: int, words: str, width: int) -> Line:
    """`✔ v0007  W c3   +.041 distil 60 steps`; a star marks the champion; wide panes name fate and parents."""
    variants = view.variants
    name, fate, kind = line(variants.name(row), 12), variants.fate(row), variants.level(row)
    mark, tone = FATES[fate]
    crowned = variants.name(row) == view.champion
    level: Tone = "quiet" if kind == "seed" else kind
    measured, screened = variants.gain(row), variants.screening(row)
    change = gain(measured) if measured is not None else "" if screened is None else f"~{score(screened)}"
    left: Line = [
        ("★" if crowned else mark, "mark" if crowned else tone),
        (f" {name:<6}", "head" if crowned else "plain"),
        (f" {kind[0].upper()}", level),
        (f" c{variants.cycle(row):<2}", "quiet"),
        (f" {change:>6} ", tone if measured is not None else "quiet"),
        (words, "plain" if fate in ("promoted", "proposed", "chosen", "seed") else "quiet"),
    ]
    if width < 64:
        return fit(left, width)
    parents = ", ".join(line(variants.name(parent), 12) for parent in variants.parents(row))
    origin = f" from {parents}" if parents else ""
    tasks = f", {counted(variants.tasks(row), 'task')}" if variants.tasks(row) else ""
    return spread(left, [(f" {fate}{tasks}{origin}", tone)], width)
