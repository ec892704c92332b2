"""The skill tree: every branch and leaf with its score before and now, and the level it masters."""

from __future__ import annotations

import msgspec

from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.figures import score
from moevolve.journal.kinds import Tone
from moevolve.journal.scores import LevelInterval, Skill
from moevolve.journal.view import RunView


class TreeRow(msgspec.Struct, frozen=True):
    """A node in reading order. Scores are means over the leaves below it; None where one was not measured."""

    name: str
    depth: int
    leaf: bool
    before: float | None
    now: float | None
    first_level: LevelInterval | None
    level: LevelInterval | None


def tree_rows(view: RunView) -> list[TreeRow]:
    """The tree, depth first, names in order; a branch aggregates its children."""
    rows: list[TreeRow] = []
    _descend(sorted(view.skills.values(), key=lambda skill: skill.path.split("/")), 0, rows)
    return rows


def _descend(skills: list[Skill], depth: int, rows: list[TreeRow]) -> None:
    names = dict.fromkeys(skill.path.split("/")[depth] for skill in skills if skill.path.count("/") >= depth)
    for name in names:
        below = [s for s in skills if s.path.count("/") >= depth and s.path.split("/")[depth] == name]
        leaf = len(below) == 1 and below[0].path.count("/") == depth
        rows.append(
            TreeRow(
                name,
                depth,
                leaf,
                _mean([s.before for s in below if s.before is not None]),
                _mean([s.now for s in below if s.now is not None]),
                below[0].first_level if leaf else None,
                below[0].level if leaf else None,
            )
        )
        if not leaf:
            _descend(below, depth + 1, rows)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def skill_line(row: TreeRow, width: int) -> Line:
    """`reverse        ━━━━━╸── .52→1.00 L6-8` in `width` cells: the level's 95 % interval, toned once it has moved."""
    figures = "–" if row.before is None else score(row.before)
    if row.before is not None and row.now is not None:
        figures += f"→{score(row.now)}"
    level, ends = "", row.level[1] if row.level else None
    if ends:
        level = f"L{ends[0]}" if ends[0] == ends[1] else f"L{ends[0]}-{ends[1]}"
    rose = fell = False
    if ends and row.first_level:
        rose, fell = ends[0] > row.first_level[1][1], ends[1] < row.first_level[1][0]
    name_width = min(22, max(13, width - 22))
    bar_width = max(4, min(24, width - name_width - 18))
    name = [(" " * row.depth + row.name, "plain" if row.leaf else "head")]
    change: Tone = "quiet"
    if row.before is not None and row.now is not None and abs(row.now - row.before) >= 0.02:
        change = "good" if row.now > row.before else "bad"
    return [
        *fit(name, name_width),  # type: ignore[arg-type]
        (" ", "plain"),
        *bar(row.before, row.now, bar_width),
        (f" {figures:>8}", change),
        (f" {level:<7}", "good" if rose else "bad" if fell else "quiet"),
    ]


def bar(before: float | None, now: float | None, width: int) -> Line:
    """A bar of half cells: what there was, then what was gained (or lost) in its own tone."""
    if before is None:
        return [("─" * width, "faint")]
    if now is None:
        now = before
    first, second = sorted((_halves(before, width), _halves(now, width)))
    tone: Tone = "good" if now >= before else "bad"
    line: Line = [("━" * (first // 2), "curve")]
    full = first // 2
    if first % 2:
        line.append(("━" if second > first else "╸", "curve"))
        full += 1
    gained = max(0, second // 2 - full)
    line.append(("━" * gained, tone))
    full += gained
    if second % 2 and second // 2 >= full:
        line.append(("╸", tone))
        full += 1
    line.append(("─" * (width - full), "faint"))
    return [span for span in line if span[0]]


def _halves(value: float, width: int) -> int:
    return round(min(1.0, max(0.0, value)) * width * 2)
