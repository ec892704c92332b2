"""The lineage: every variant the run made, rejected ones too, newest first."""

from moevolve_tui.drawing.lines import Line, Tone, fit, spread
from moevolve_tui.figures import gain, score
from moevolve_tui.model import Fate, RunModel, VariantView
from moevolve_tui.sentences import short

FATES: dict[Fate, tuple[str, Tone, str]] = {
    "seed": ("●", "head", "seed"),
    "proposed": ("…", "quiet", "at the gate"),
    "screened": ("·", "faint", "screened out"),
    "promoted": ("✔", "good", "promoted"),
    "archived": ("○", "warn", "archived"),
    "discarded": ("✗", "bad", "discarded"),
}
"""Fate -> mark, tone, words. The mark alone tells them apart, for those who see no colour."""


def lineage_rows(model: RunModel) -> list[VariantView]:
    """Variants, newest first."""
    return list(reversed(model.variants.values()))


def variant_line(node: VariantView, champion: str, width: int) -> Line:
    """`✔ c3 W v0007 +.041 distil 60 steps`; a star marks the champion; wide panes name the parent."""
    mark, tone, words = FATES[node.fate]
    crowned = node.variant == champion
    level: Tone = "quiet" if node.level == "seed" else node.level
    change = (
        gain(node.gain)
        if node.gain is not None
        else f"~{score(node.screening)}"
        if node.screening is not None
        else ""
    )
    left: Line = [
        ("★" if crowned else mark, "mark" if crowned else tone),
        (f" {short(node.variant):<6}", "head" if crowned else "plain"),
        (f" {node.level[0].upper()}", level),
        (f" c{node.cycle:<2}", "quiet"),
        (f" {change:>6} ", tone if node.gain is not None else "quiet"),
        (node.what, "plain" if node.fate in ("promoted", "proposed", "seed") else "quiet"),
    ]
    if width < 64:
        return fit(left, width)
    parent = f" from {short(node.parent)}" if node.parent else ""
    tasks = f", {node.tasks} tasks" if node.tasks else ""
    return spread(left, [(f" {words}{tasks}{parent}", tone)], width)
