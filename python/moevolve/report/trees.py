"""Skill trees and what was found about them, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from moevolve.journal.figures import decimals, level
from moevolve.journal.text import line
from moevolve.report.growth import GrowthFigures
from moevolve.report.summary import Summary
from moevolve.report.terminal import change, plain_table
from moevolve.skills.tree import grow
from moevolve.tasks.validation import Report


def tree(title: str, columns: Sequence[str], leaves: Mapping[str, Sequence[str]]) -> Table:
    """A skill tree, one node a line.

    Args:
        title: what the tree is of.
        columns: names of the columns beside the tree.
        leaves: a leaf's path -> its cells.
    """
    table = plain_table(title)
    table.add_column("skill", no_wrap=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    for branch, path in _nodes(leaves):
        shown = Text(
            f"{'  ' * path.count('/')}{line(path.rpartition('/')[2])}", style="bold" if branch else ""
        )
        table.add_row(shown, *(line(cell) for cell in ([] if branch else leaves[path])))
    return table


def standing(summary: Summary, asks: Mapping[str, str]) -> Table:
    """How a run stands on its tree.

    Args:
        summary: the run's figures.
        asks: a leaf's path -> what its tasks ask.
    """
    return tree(
        summary.run,
        ("level before", "level", "before", "after", "attempts", "asks"),
        {
            path: (
                level(figures.initial_level, figures.initial_level_ci),
                level(figures.level, figures.level_ci),
                *(decimals(score) for score in change(summary, figures)),
                f"{figures.attempts:,}",
                asks.get(path, ""),
            )
            for path, figures in summary.skills.items()
        },
    )


def whole(summary: Summary, asks: Mapping[str, str]) -> Table:
    """The whole tree of a run, what it grew included: levels, the mastered one, and the newest sealed score.

    Args:
        summary: the run's figures.
        asks: a leaf's path -> what its tasks ask.
    """
    growth = summary.growth
    rows = {}
    for path, figures in summary.skills.items():
        opened = growth.opened.get(path) if growth else None
        rows[path] = (
            f"to {opened.levels[1]}" if opened else "",
            level(figures.level, figures.level_ci),
            decimals(figures.initial if figures.final is None else figures.final),
            opened.growth if opened else "",
            asks.get(path, ""),
        )
    for path, leaf in growth.leaves.items() if growth else ():
        rows[path] = (
            f"{leaf.levels[0]}-{leaf.levels[1]}",
            level(leaf.level, leaf.level_ci),
            decimals(leaf.sealed.score if leaf.sealed else None),
            leaf.growth,
            leaf.summary,
        )
    return tree(summary.run, ("levels grown", "mastered", "sealed", "grown by", "asks"), rows)


def changes(growth: GrowthFigures) -> Table:
    """Every change of a tree that was tried, and what became of it."""
    table = plain_table("Changes of the tree that were tried")
    for name in ("change", "cycle", "became"):
        table.add_column(name)
    table.add_column("what", overflow="fold")
    table.add_column("trial", overflow="fold")
    for each in growth.changes:
        table.add_row(each.growth, str(each.cycle), each.state, line(each.what, 300), line(each.reason, 300))
    return table


def validation(report: Report) -> Table:
    """What was found about a suite: gold answers, and the best answer that ignores the prompt."""
    return tree(
        f"{report.suite}: {'in order' if report.ok else 'NOT in order'}",
        ("gold", "best constant", "tasks", "found"),
        {
            leaf.path: (
                decimals(leaf.gold),
                f"{leaf.constant:.3f} ({leaf.constant_answer!r})",
                str(leaf.tasks),
                "; ".join(leaf.problems) or "in order",
            )
            for leaf in report.leaves
        },
    )


def _nodes(paths: Mapping[str, object]) -> Iterator[tuple[bool, str]]:
    """(whether it is a branch, path), parents before their children."""
    for _, node in grow(paths).walk():
        if node.path:
            yield not node.leaf, node.path
