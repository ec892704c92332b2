"""Runs side by side as tables: compared, as means over seeds, and as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moevolve.journal.figures import amount, bounds, decimals, duration, number, signed
from moevolve.journal.kinds.generalise import COLUMNS
from moevolve.journal.text import line
from moevolve.report.arms import ArmFigures, MeanFigures
from moevolve.report.summary import Summary
from moevolve.report.terminal import LONGEST, PIPE_WIDTH, measured, plain_table

WIDE = 110
"""Columns beside name and arm that a comparison needs for a score and its interval on one line."""
NAME_WIDTH = 32
"""A run's longer name goes over several lines, so that its figures stay readable."""


def comparison(runs: Mapping[str, Summary], *, width: int = PIPE_WIDTH) -> Table:
    """Runs side by side: one a line, or in a narrow terminal three lines each.

    Args:
        runs: a run's name -> its figures.
        width: columns of the terminal.
    """
    longest = [
        max((len(text) for text in texts), default=0) for texts in (runs, (s.arm for s in runs.values()))
    ]
    wide = width >= WIDE + min(NAME_WIDTH, longest[0]) + longest[1]
    rated = any(summary.score.initial is not None and summary.score.n is None for summary in runs.values())
    table = plain_table(f"Runs: {_whose(rated)} before and after, 95 % intervals")
    table.add_column("run", overflow="fold", max_width=NAME_WIDTH)
    names = ["initial", "final", "gain", "time", "tokens"]
    for name in ["arm", "seed", *names, "promoted"] if wide else names:
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for name, summary in runs.items():
        score, counts = summary.score, summary.promotions
        unfinished = "" if summary.status == "finished" else f" ({summary.status})"
        promoted = f"{counts.weights.accepted}/{counts.program.accepted}"
        columns: list[RenderableType] = [
            *measured(score, " " if wide else "\n", unfinished),
            duration(summary.seconds),
            amount(summary.tokens.generated + summary.tokens.trained),
        ]
        if wide:
            table.add_row(line(name), summary.arm, str(summary.seed), *columns, promoted)
        else:
            table.add_row(f"{line(name)}\n{summary.arm}, {summary.seed}\n{promoted} promoted", *columns)
    return table


def over_seeds(found: Sequence[ArmFigures]) -> Table:
    """Arms side by side, each over its seeds."""
    rated = any(each.rated for each in found)
    table = plain_table(f"Arms: {_whose(rated)}, means over seeds with 95 % intervals")
    table.add_column("arm", overflow="fold", max_width=NAME_WIDTH)
    for name in ("runs", "initial", "final", "gain", "time", "tokens", "promoted"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        means = [_mean(figure, rated=each.rated) for figure in (each.initial, each.final, each.gain)]
        table.add_row(
            f"{line(each.name, LONGEST)}, {each.arm}",
            str(len(each.seeds)),
            *means,
            duration(each.seconds),
            amount(round(each.tokens)),
            f"{each.promotions:g}",
        )
    return table


def generalised(found: Sequence[ArmFigures]) -> Table | None:
    """Each arm's gains by column, means over seeds; None where no run was asked for them."""
    if not any(each.generalisation for each in found):
        return None
    table = plain_table("Generalisation: paired gains, means over seeds with 95 % intervals")
    table.add_column("arm", overflow="fold", max_width=NAME_WIDTH)
    for name, what in COLUMNS.items():
        table.add_column(f"{name} {what}", justify="right")
    for each in found:
        gains = [each.generalisation.get(name) for name in COLUMNS]
        cells = [f"{signed(of.mean)}\n{bounds(of.ci, sign=True)}".strip() if of else "" for of in gains]
        table.add_row(f"{line(each.name, LONGEST)}, {each.arm}", *cells)
    return table


def _whose(rated: bool) -> str:
    return "score (an evaluator's or sealed)" if rated else "sealed score"


def _mean(figure: MeanFigures, *, rated: bool) -> str:
    if rated:
        ends = "" if figure.ci is None else f" [{number(figure.ci[0])}, {number(figure.ci[1])}]"
        return f"{number(figure.mean)}{ends}"
    return decimals(figure.mean) + (f" {bounds(figure.ci)}" if figure.ci is not None else "")


def listing(runs: Mapping[str, Summary | str]) -> Table:
    """Runs in a folder, one a line; a text in place of figures says why a run cannot be read."""
    table = plain_table("")
    table.add_column("run", overflow="fold", max_width=NAME_WIDTH)
    for name in ("status", "arm"):
        table.add_column(name)
    for name in ("seed", "cycles", "before", "after", "time"):
        table.add_column(name, justify="right")
    for name, summary in runs.items():
        if isinstance(summary, str):
            table.add_row(line(name), Text(line(summary), style="red"))
            continue
        table.add_row(
            line(name),
            summary.status,
            summary.arm,
            str(summary.seed),
            str(summary.cycles),
            *measured(msgspec.structs.replace(summary.score, initial_ci=None, final_ci=None), "")[:2],
            duration(summary.seconds),
        )
    return table
