"""The skill tree: every branch and leaf with its score before and now, and the level it masters."""

from __future__ import annotations

import msgspec

from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.figures import gain, score
from moevolve.journal.growth import leaves_of
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
    path: str = ""
    """A leaf's own, or what the paths of a branch's leaves begin with."""
    change: tuple[float, tuple[float, float]] | None = None
    """Of a leaf, the gain on like splits with its interval."""
    n: int = 0
    """Tasks of the newest score."""
    grown: str = ""
    """Of a leaf that the tree grew, the change that added it; of one that opened levels, the last that did."""
    column: tuple[float, int] | None = None
    """Score and tasks in the growth column."""


def tree_rows(view: RunView, closed: frozenset[str] = frozenset()) -> list[TreeRow]:
    """The tree, depth first, names in order; a branch aggregates its children. Branches in `closed` show no children."""
    rows: list[TreeRow] = []
    leaves = leaves_of(view.skills.values(), view.growth)
    _descend(sorted(leaves, key=lambda skill: skill.path.split("/")), 0, rows, closed)
    return [_with_growth(row, view) for row in rows] if view.growth.tries else rows


def _with_growth(row: TreeRow, view: RunView) -> TreeRow:
    made = view.growth.origin(row.path) if row.path in view.growth.skills else None
    opened = [c for c in view.growth.in_force() if c.change == "levels" and c.skill == row.path]
    last = made or (opened[-1] if opened else None)
    if not row.leaf or last is None:
        return row
    share = view.growth.scores.get(row.path)
    return msgspec.structs.replace(
        row, grown=last.name, column=None if share is None else (share.score, share.n)
    )


def _descend(skills: list[Skill], depth: int, rows: list[TreeRow], closed: frozenset[str]) -> None:
    names = dict.fromkeys(skill.path.split("/")[depth] for skill in skills if skill.path.count("/") >= depth)
    for name in names:
        below = [s for s in skills if s.path.count("/") >= depth and s.path.split("/")[depth] == name]
        leaf = len(below) == 1 and below[0].path.count("/") == depth
        path = "/".join(below[0].path.split("/")[: depth + 1])
        scored = [s for s in below if s.before is not None and s.now is not None]
        rows.append(
            TreeRow(
                name,
                depth,
                leaf,
                _mean([s.before for s in (scored or below) if s.before is not None]),
                _mean([s.now for s in scored if s.now is not None]),
                below[0].first_level if leaf else None,
                below[0].level if leaf else None,
                path,
                _change(below[0]) if leaf else None,
                sum(tasks(each) for each in below),
            )
        )
        if not leaf and path not in closed:
            _descend(below, depth + 1, rows, closed)


def tasks(skill: Skill) -> int:
    """Tasks of a skill's newest score."""
    share = skill.newest.get(skill.split) or skill.first.get(skill.split)
    return share.n if share else 0


def _change(skill: Skill) -> tuple[float, tuple[float, float]] | None:
    found = skill.gain
    return None if found is None else (found.gain, found.interval)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def skill_line(row: TreeRow, width: int, *, open: bool = True) -> Line:
    """`reverse        ━━━━━╸── .52 > 1.00 +.48 L6-8 n=40`: colour only where the change leaves its 95 % interval."""
    figures = f"{'–' if row.before is None else _short(row.before):>3}"
    if row.before is not None and row.now is not None:
        figures += f" > {_short(row.now):>3}"
    level, ends = "", row.level[1] if row.level else None
    if ends:
        level = f"L{ends[0]}" if ends[0] == ends[1] else f"L{ends[0]}-{ends[1]}"
    tone: Tone = "quiet"
    mark = " "
    change = ""
    if row.change is not None:
        low, high = row.change[1]
        tone = "good" if low > 0 else "bad" if high < 0 else "quiet"
        mark = "+" if low > 0 else "!" if high < 0 else " "
        change = f"{gain(row.change[0], 2)} ±{score((high - low) / 2)}"
    tail, before, now = f" n={row.n}" if row.n else "", row.before, row.now
    if row.grown:
        tail += f" {row.grown}"
        if row.column is not None and row.before is None:
            # No score counts it: what stands here is its share of the growth column.
            before, tone = row.column[0], "sealed"
            figures, tail = f"{_short(before):>9}", f" n={row.column[1]} {row.grown}"
    room = width - 40
    name_width = min(30, max(14, room - 13))
    # A bar of a few cells tells nothing.
    bar_width = min(24, room - name_width)
    if bar_width < 4:
        name_width, bar_width = max(14, room), 0
    lead = "" if row.leaf else ("v " if open else "> ")
    name: Line = [("  " * row.depth + lead + row.name, "plain" if row.leaf else "head")]
    bar_tone: Tone = tone if row.leaf else "quiet"
    return [
        (mark, tone),
        *fit(name, name_width),
        (" ", "plain"),
        *bar(before, now, bar_width, bar_tone),
        (f" {figures:<9}", tone),
        (f" {change:<9}", "quiet"),
        (f" {level:<6}", "quiet"),
        (tail, "quiet"),
    ]


def _short(value: float) -> str:
    """A score in three cells, so that all that stand below one another line up: `.98`, `1.0`."""
    text = score(value)
    return text if len(text) <= 3 else f"{value:.1f}"


def bar(before: float | None, now: float | None, width: int, tone: Tone) -> Line:
    """A bar of half cells: what there was, then what was gained (or lost) in its own tone, by `+` and `-` as well."""
    if before is None:
        return [("─" * width, "faint")]
    if now is None:
        now = before
    first, second = sorted((_halves(before, width), _halves(now, width)))
    line: Line = [("━" * (first // 2), "curve")]
    full = first // 2
    if first % 2:
        line.append(("━" if second > first else "╸", "curve"))
        full += 1
    gained = max(0, second // 2 - full)
    line.append((("+" if now >= before else "-") * gained, tone))
    full += gained
    if second % 2 and second // 2 >= full and full < width:
        line.append(("╸", tone))
        full += 1
    line.append(("─" * (width - full), "faint"))
    return [span for span in line if span[0]]


def _halves(value: float, width: int) -> int:
    return round(min(1.0, max(0.0, value)) * width * 2)
