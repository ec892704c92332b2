"""Skill trees and what was found about them, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from moevolve.journal.figures import decimals, level
from moevolve.journal.text import line
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
