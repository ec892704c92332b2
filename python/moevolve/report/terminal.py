"""A run's figures as tables on a terminal, or as text of a fixed width in a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from moevolve.journal import figures
from moevolve.report.chart import chart
from moevolve.report.sentences import amount, duration, plain
from moevolve.report.summary import Cost, GateFigures, StageCost, Summary

PIPE_WIDTH = 130
"""Width of tables where stdout is no terminal."""
WIDE = 110
"""Columns beside name and arm that a comparison needs for a score and its interval on one line."""
NAME_WIDTH = 32
"""A run's longer name goes over several lines, so that its figures stay readable."""


def console(file: TextIO | None = None) -> Console:
    """A console on stdout: in colour on a terminal, else plain and of a fixed width."""
    out = file or sys.stdout
    # Names and summaries come from programs: no text of theirs is markup.
    return Console(
        file=out, width=None if out.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False
    )


def show(summary: Summary) -> Group:
    """Everything about a run on one screen: scores, skills, promotions, guards."""
    parts: list[RenderableType] = [heading(summary), scores(summary), skills(summary), promotions(summary)]
    if summary.guards:
        parts.append(guards(summary))
    if summary.cost is not None:
        parts.append(cost(summary.cost))
    return Group(*parts)


def report(summary: Summary) -> Group:
    """`show`, with the curve and every decision of the gate."""
    parts: list[RenderableType] = [heading(summary), scores(summary)]
    if summary.curve:
        parts += [Text("\nScore by cycle: ◆ sealed, ● dev, bars are 95 % intervals", style="bold")]
        parts += [Text("\n".join(chart(summary.curve)))]
    parts += [skills(summary), promotions(summary)]
    if summary.gates:
        parts.append(decisions(summary.gates))
    if summary.guards:
        parts.append(guards(summary))
    if summary.cost is not None:
        parts.append(cost(summary.cost))
    return Group(*parts)


def heading(summary: Summary) -> Text:
    """The run in two or three lines."""
    colour = {"running": "cyan", "finished": "green", "failed": "red"}.get(summary.status, "yellow")
    text = Text.assemble(
        (plain(summary.run), "bold"),
        "  ",
        (summary.status, colour),
        f"  seed {summary.seed}, arm {summary.arm}, {_count(summary.cycles, 'cycle')}, ",
        f"{duration(summary.seconds)}\n",
        f"champion {summary.champion} of {_count(summary.variants, 'variant')}; ",
        f"{amount(summary.tokens.generated)} tokens generated, {amount(summary.tokens.trained)} trained; ",
        f"{summary.memory.lessons:,} lessons; journal {summary.journal.entries:,} entries, "
        f"head {summary.journal.head[:16]}",
    )
    if summary.error:
        text.append(f"\n{plain(summary.error)}", style="red")
    elif summary.status == "running" and summary.stage:
        text.append(f"\n{plain(summary.stage)}", style="cyan")
    return text


def scores(summary: Summary) -> Table:
    """Before, after, gain, each with its interval."""
    score = summary.score
    where = "sealed tasks" if score.final_split == "sealed" else "dev tasks so far"
    table = plain_table("Score")
    for name in ("before", f"after ({where})", "gain"):
        table.add_column(name, justify="right")
    table.add_column("tasks", justify="right")
    if score.initial is None or score.final is None:
        table.add_row("not scored yet", "", "", "")
    else:
        table.add_row(
            f"{score.initial:.3f} {_interval(score.initial_ci)}",
            f"{score.final:.3f} {_interval(score.final_ci)}",
            Text(
                f"{_signed(score.gain)} {_interval(score.gain_ci, signed=True)}",
                style=_tone(score.gain, score.gain_ci),
            ),
            f"{score.n:,}",
        )
    return table


def skills(summary: Summary) -> Table:
    """Each leaf of the skill tree before and after."""
    table = plain_table("Skills")
    table.add_column("skill")
    for name in ("before", "after", "gain", "level", "attempts"):
        table.add_column(name, justify="right")
    for path, skill in summary.skills.items():
        gain = None if skill.initial is None or skill.final is None else skill.final - skill.initial
        table.add_row(
            plain(path),
            decimals(skill.initial),
            decimals(skill.final),
            Text(
                _signed(gain),
                style="green" if gain and gain >= 0.05 else "red" if gain and gain <= -0.05 else "",
            ),
            f"{skill.initial_level} > {skill.level}"
            if skill.level != skill.initial_level
            else str(skill.level),
            f"{skill.attempts:,}",
        )
    return table


def promotions(summary: Summary) -> RenderableType:
    """What was promoted and why."""
    counts = summary.promotions
    title = (
        f"Promoted: weights {counts.weights.accepted} of {counts.weights.proposed} proposed, "
        f"program {counts.program.accepted} of {counts.program.proposed}"
    )
    promoted = [gate for gate in summary.gates if gate.decision == "promote"]
    return decisions(promoted, title) if promoted else Text(f"\n{title}", style="bold")


def decisions(gates: Sequence[GateFigures], title: str = "Decisions of the gate") -> Table:
    """Decisions of the gate with their evidence."""
    mixed = len({gate.decision for gate in gates}) > 1
    table = plain_table(title)
    table.add_column("cycle", justify="right")
    table.add_column("level")
    table.add_column("variant")
    if mixed:
        table.add_column("decision")
    table.add_column("what", ratio=1, overflow="fold")
    table.add_column("gain", justify="right")
    table.add_column("evidence", justify="right", no_wrap=True)
    table.add_column("won-lost of n", justify="right", no_wrap=True)
    table.expand = True
    for gate in gates:
        what = Text(plain(": ".join(dict.fromkeys(part for part in (gate.operator, gate.summary) if part))))
        if gate.decision != "promote":
            what.append(f" ({plain(gate.reason)})", style="dim")
        table.add_row(
            str(gate.cycle),
            gate.level,
            plain(gate.candidate),
            *([gate.decision] if mixed else []),
            what,
            _signed(gate.gain),
            evidence(gate),
            f"{gate.wins}-{gate.losses} of {gate.n}",
        )
    return table


def evidence(gate: GateFigures) -> str:
    """The e-value for "better": how many times likelier than under "no better"."""
    return f"e^{gate.evidence:.1f}" if abs(gate.evidence) > 6.9 else f"{math.exp(gate.evidence):.3g} : 1"


def guards(summary: Summary) -> Table:
    """What the guards checked and vetoed."""
    table = plain_table("Guards")
    table.add_column("guard")
    table.add_column("checked", justify="right")
    table.add_column("vetoed", justify="right")
    for name, guard in summary.guards.items():
        table.add_row(plain(name), f"{guard.checked:,}", f"{guard.vetoed:,}")
    return table


def cost(spent: Cost) -> Group:
    """What a server was asked and what it charged, by kind of stage."""
    table = plain_table("Asked of the server")
    table.add_column("stage")
    for name in ("requests", "tokens", f"cost {plain(spent.currency)}".rstrip(), "failed"):
        table.add_column(name, justify="right")
    kinds: dict[str, list[StageCost]] = {}
    for stage in spent.stages:
        # One line for all gates, all screenings and so on.
        name, _, which = stage.stage.partition(" ")
        kinds.setdefault(stage.stage if which in ("initial", "final", "short") else name, []).append(stage)
    for name, stages in kinds.items():
        money = (
            "-"
            if spent.money is None
            else figures.money(sum((Decimal(stage.cost or 0) for stage in stages), Decimal(0)))
        )
        table.add_row(
            plain(name),
            f"{sum(stage.requests for stage in stages):,}",
            f"{sum(stage.tokens for stage in stages):,}",
            money,
            f"{sum(stage.failed for stage in stages):,}",
        )
    table.add_row(
        Text("the whole run", style="bold"),
        f"{spent.requests:,}",
        f"{spent.prompt_tokens + spent.completion_tokens:,}",
        spent.money or "-",
        f"{sum(spent.failures.values()):,}",
    )
    notes = [f"{spent.prompt_tokens:,} tokens read, {spent.cached_tokens:,} of them cached"]
    notes.append(f"{spent.completion_tokens:,} written")
    if spent.unmetered:
        notes.append(f"{spent.unmetered:,} calls came without usage figures and are in no sum")
    if spent.faults:
        notes.append("failed calls: " + ", ".join(f"{n:,} {plain(kind)}" for kind, n in spent.faults.items()))
    return Group(table, Text("; ".join(notes)))


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
    table = plain_table("Runs: sealed score before and after, 95 % intervals")
    table.add_column("run", overflow="fold", max_width=NAME_WIDTH)
    names = ["initial", "final", "gain", "time", "tokens"]
    for name in ["arm", "seed", *names, "promoted"] if wide else names:
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for name, summary in runs.items():
        score, counts = summary.score, summary.promotions
        unfinished = "" if summary.status == "finished" else f" ({summary.status})"
        promoted = f"{counts.weights.accepted}/{counts.program.accepted}"
        join = " " if wide else "\n"
        gain = f"{_signed(score.gain)}{join}{_interval(score.gain_ci, signed=True)}"
        figures: list[RenderableType] = [
            f"{decimals(score.initial)}{join}{_interval(score.initial_ci)}",
            f"{decimals(score.final)}{unfinished}{join}{_interval(score.final_ci)}",
            Text(gain, style=_tone(score.gain, score.gain_ci)),
            duration(summary.seconds),
            amount(summary.tokens.generated + summary.tokens.trained),
        ]
        if wide:
            table.add_row(plain(name), summary.arm, str(summary.seed), *figures, promoted)
        else:
            table.add_row(f"{plain(name)}\n{summary.arm}, {summary.seed}\n{promoted} promoted", *figures)
    return table


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
            table.add_row(plain(name), Text(plain(summary), style="red"))
            continue
        table.add_row(
            plain(name),
            summary.status,
            summary.arm,
            str(summary.seed),
            str(summary.cycles),
            decimals(summary.score.initial),
            decimals(summary.score.final),
            duration(summary.seconds),
        )
    return table


def plain_table(title: str) -> Table:
    """A table in the reports' style."""
    return Table(
        title=f"\n{title}" if title else None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def decimals(value: float | None) -> str:
    """A score, or `-` for none."""
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _interval(interval: tuple[float, float] | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"[{low:+.3f}, {high:+.3f}]" if signed else f"[{low:.3f}, {high:.3f}]"


def _tone(gain: float | None, interval: tuple[float, float] | None) -> str:
    if gain is None or interval is None:
        return ""
    return "bold green" if interval[0] > 0 else "bold red" if interval[1] < 0 else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
