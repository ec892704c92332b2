"""A run's figures as tables on a terminal, or as text of a fixed width in a pipe.

One file above 400 lines: what stands on one screen, table by table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from moevolve.journal import figures
from moevolve.journal.costs import said_endings, said_refused
from moevolve.journal.drawing.curve import curve_lines
from moevolve.journal.drawing.lines import text_of
from moevolve.journal.figures import amount, bounds, counted, decimals, duration, evidence, level, signed
from moevolve.journal.kinds.variants import fate_of
from moevolve.journal.remembering import brought
from moevolve.journal.text import line
from moevolve.journal.view import RunView, describe
from moevolve.records import Answers
from moevolve.report.ablation import PartFigures
from moevolve.report.generalisation import ColumnFigures
from moevolve.report.search import lines as earned_lines
from moevolve.report.summary import (
    AlarmFigures,
    Cost,
    GateFigures,
    Memory,
    Score,
    SkillFigures,
    Summary,
)

PIPE_WIDTH = 130
"""Width of tables where stdout is no terminal."""
LONGEST = 64
"""Characters of a name, so that none is long enough to begin a line of its own."""
ALARMS = 8
"""Alarms of guards that are shown, the newest."""
CURVE = 78
"""Columns of the curve."""


def console(file: TextIO | None = None) -> Console:
    """A console on stdout: in colour on a terminal, else plain and of a fixed width."""
    out = file or sys.stdout
    # Names and summaries come from programs: no text of theirs is markup.
    return Console(
        file=out, width=None if out.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False
    )


def show(summary: Summary) -> Group:
    """Everything about a run on one screen: scores, skills, promotions, guards."""
    parts: list[RenderableType] = [heading(summary), scores(summary), skills(summary)]
    parts += [growth(summary)] if _grew(summary) else []
    parts += [generalisation(summary)] if summary.generalisation else []
    parts.append(promotions(summary))
    return Group(*parts, *_ending(summary))


def report(summary: Summary, view: RunView) -> Group:
    """`show`, with the curve and the decisions of the gate."""
    parts: list[RenderableType] = [heading(summary), scores(summary)]
    if summary.curve:
        parts += [
            Text("\nScore by cycle: ◆ sealed, ━ dev, with 95 % intervals; w and p: promotions", style="bold")
        ]
        parts += [Text("\n".join(text_of(each).rstrip() for each in curve_lines(view, CURVE, 16)))]
    parts.append(skills(summary))
    parts += [growth(summary)] if _grew(summary) else []
    parts += [generalisation(summary)] if summary.generalisation else []
    parts.append(promotions(summary))
    if summary.gates:
        parts.append(decisions(summary.gates))
    return Group(*parts, *_ending(summary))


def _ending(summary: Summary) -> list[RenderableType]:
    """Guards, the walls around programs, and what a server charged, as far as there are any."""
    parts: list[RenderableType] = [
        _indented(each) for each in earned_lines(summary.proposers, summary.operators, summary.accepted)
    ]
    if summary.nulls is not None:
        parts.append(_indented(describe(summary.nulls)[0]))
    parts += [ablations(summary)] if summary.ablations else []
    if (brought := memory_line(summary.memory)) is not None:
        parts.append(_indented(brought))
    parts += [guards(summary)] if summary.guards else []
    parts += [alarm(each) for each in summary.alarms[-ALARMS:]]
    if walls := summary.sandbox:
        without = f"; MISSING: {', '.join(map(line, walls.missing))}" if walls.missing else ""
        parts.append(_indented(f"\nSandbox: {', '.join(map(line, walls.layers))}{without}"))
    if summary.cost is not None:
        parts.append(cost(summary.cost))
    return parts


def memory_line(memory: Memory) -> str | None:
    """What memory brought, with its interval; None where nobody asked it."""
    if not memory.recalls:
        return None
    return f"\n{memory_words(memory)}"


def memory_words(memory: Memory) -> str:
    """What memory brought in a sentence; see `brought`."""
    said = brought(memory.recalls, memory.practised, memory.gain, memory.gain_ci, memory.n)
    said += f"; {counted(memory.silent, 'recall')} found no lesson" if memory.silent else ""
    return said + (f"; {counted(memory.expired, 'lesson')} did harm and expired" if memory.expired else "")


WHOSE: dict[Answers, str] = {
    "policy": "answers are the policy's words",
    "any": "the program may compute its answers",
}
"""Whose an answer may be, for the first line."""


def heading(summary: Summary) -> Group:
    """The run in two or three lines."""
    colour = {"running": "cyan", "finished": "green", "failed": "red"}.get(summary.status, "yellow")
    text = Text.assemble(
        (line(summary.run, LONGEST), "bold"),
        "  ",
        (summary.status, colour),
        f"  {WHOSE[summary.answers]}; "
        f"seed {summary.seed}, arm {summary.arm}, {counted(summary.cycles, 'cycle')}, ",
        f"{duration(summary.seconds)}\n",
        f"champion {line(summary.champion, LONGEST)} of {counted(summary.variants, 'variant')}; ",
        f"{amount(summary.tokens.generated)} tokens generated, {amount(summary.tokens.trained)} trained; ",
        f"{summary.memory.lessons:,} lessons; journal {summary.journal.entries:,} entries, "
        f"head {summary.journal.head[:16]}",
    )
    if summary.scored:
        share = summary.unanswered / summary.scored
        text.append(
            f"\n{summary.unanswered:,} of {summary.scored:,} scored tasks without an answer ({share:.1%})"
        )
    parts: list[RenderableType] = [text]
    if summary.waiting:
        parts.append(_indented(f"waits for approval: {', '.join(map(line, summary.waiting))}", "yellow"))
    if summary.error:
        parts.append(_indented(line(summary.error), "red"))
    elif summary.status == "running" and summary.stage:
        parts.append(_indented(line(summary.stage), "cyan"))
    return Group(*parts)


def _indented(text: str, style: str = "") -> Padding:
    """A paragraph with foreign words in it: where it is folded, no line of theirs begins at the edge."""
    return Padding(Text(text, style=style), (0, 0, 0, 2))


def scores(summary: Summary) -> Table:
    """Before, after, gain, each with its interval: on the sealed split, and on the dev split so far."""
    table = plain_table("Score")
    table.add_column("split")
    for name in ("before", "after", "gain", "tasks"):
        table.add_column(name, justify="right")
    for name, score in (("sealed", summary.score), ("dev", summary.dev)):
        if score.initial is not None:
            table.add_row(name, *measured(score), f"{score.n:,}")
        if score.bare_initial is not None:
            before = f"{decimals(score.bare_initial)} {bounds(score.bare_initial_ci)}"
            after = f"{decimals(score.bare_final)} {bounds(score.bare_final_ci)}"
            table.add_row("bare policy", before, after, "", f"{score.n:,}")
    if not table.rows:
        table.add_row("not scored yet", "", "", "", "")
    return table


def generalisation(summary: Summary) -> Table:
    """The first variant and the champion on the same tasks, from those of the screening to other branches of skills."""
    table = plain_table("Generalisation, in no score but G1 (sealed)")
    table.add_column("tasks")
    for name in ("before", "after", "gain", "tasks"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="fold")
    for name, column in summary.generalisation.items():
        cells = measured(column) if column.n else ("", "", "")
        n = "" if column.n is None else f"{column.n:,}"
        table.add_row(f"{name} {column.what}", *cells, n, line(column.reason or ""))
    return table


def measured(
    score: Score | ColumnFigures, join: str = " ", note: str = ""
) -> tuple[RenderableType, RenderableType, Text]:
    """Before, after and gain; what was not measured is blank."""
    before, after, gain = score.initial, score.final, score.gain
    if score.n is None:  # an evaluator's, whose unit nobody knows
        told = ["" if each is None else figures.number(each) for each in (before, after, gain)]
        return told[0], told[1] + note, Text(told[2], style=_tone(gain, None))
    return (
        f"{decimals(before)}{join}{bounds(score.initial_ci)}",
        f"{decimals(after)}{note}{join}{bounds(score.final_ci)}",
        Text(f"{signed(gain)}{join}{bounds(score.gain_ci, sign=True)}", style=_tone(gain, score.gain_ci)),
    )


def skills(summary: Summary) -> Table:
    """Each leaf of the skill tree before and after, and the level it masters with its 95 % interval."""
    table = plain_table(f"Skills ({'sealed' if sealed(summary) else 'dev'} tasks)")
    table.add_column("skill")
    for name in ("before", "after", "gain", "level before", "level", "attempts"):
        table.add_column(name, justify="right")
    for path, skill in summary.skills.items():
        before, after = change(summary, skill)
        gain = None if before is None or after is None else after - before
        table.add_row(
            line(path, LONGEST),
            decimals(before),
            decimals(after),
            signed(gain),
            level(skill.initial_level, skill.initial_level_ci),
            Text(level(skill.level, skill.level_ci), style=_moved(skill)),
            f"{skill.attempts:,}",
        )
    return table


def growth(summary: Summary) -> Table:
    """The growth column: leaves that the tree grew and levels that others opened, with sealed scores."""
    table = plain_table("Growth, in no score")
    table.add_column("leaf")
    for name in ("levels", "mastered", "sealed", "95 %", "tasks", "attempts"):
        table.add_column(name, justify="right")
    table.add_column("from", overflow="fold")
    found = summary.growth
    for path, leaf in {**found.leaves, **found.opened}.items() if found else ():
        column = leaf.sealed
        table.add_row(
            line(path, LONGEST),
            f"{leaf.levels[0]}-{leaf.levels[1]}",
            level(leaf.level, leaf.level_ci),
            decimals(column.score if column else None),
            bounds(column.ci if column else None),
            f"{column.n:,}" if column else "",
            f"{leaf.attempts:,}",
            f"{leaf.growth}: {', '.join(leaf.parents)}{f' by {leaf.feature}' if leaf.feature else ''}",
        )
    return table


def sealed(summary: Summary) -> bool:
    """Whether changes are shown on the sealed split: it was scored twice, or the dev split never."""
    return summary.score.final is not None or summary.dev.initial is None


def change(summary: Summary, skill: SkillFigures) -> tuple[float | None, float | None]:
    """A skill's score before and after, both on the split to show."""
    return (skill.initial, skill.final) if sealed(summary) else (skill.dev_initial, skill.dev_final)


def _grew(summary: Summary) -> bool:
    return summary.growth is not None and bool(summary.growth.leaves or summary.growth.opened)


def _moved(skill: SkillFigures) -> str:
    """The colour of a level: none unless its interval has left the first one."""
    before, after = skill.initial_level_ci, skill.level_ci
    if before is None or after is None:
        return ""
    return "green" if after[0] > before[1] else "red" if after[1] < before[0] else ""


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
        what = Text(line(": ".join(dict.fromkeys(part for part in (gate.operator, gate.summary) if part))))
        if gate.decision != "promote":
            what.append(f" ({line(gate.reason)})", style="dim")
        table.add_row(
            str(gate.cycle),
            gate.level,
            line(gate.candidate),
            *([fate_of(gate.decision)] if mixed else []),
            what,
            signed(gate.gain),
            evidence(gate.evidence),
            f"{gate.wins}-{gate.losses} of {gate.n}",
        )
    return table


def ablations(summary: Summary) -> Table:
    """Each promotion of weights: their score bare, with the old program, and with the one searched for beside them."""
    table = plain_table("New weights (the same dev tasks)")
    for name in ("cycle", "weights", "bare", "old program", "searched program", "gain", "tasks"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for each in summary.ablations:
        scores = [_part(each.bare), _part(each.old_program), _part(each.searched_program)]
        if each.variant is not None:
            scores[2] += f" {line(each.variant)}{'' if each.promoted else ', not promoted'}"
        gain = Text(
            f"{signed(each.gain)} {bounds(each.gain_ci, sign=True)}", style=_tone(each.gain, each.gain_ci)
        )
        tasks = f"{each.old_program.n:,}" if each.old_program else ""
        table.add_row(str(each.cycle), line(each.weights), *scores, gain, tasks)
    return table


def _part(score: PartFigures | None) -> str:
    return "" if score is None else f"{decimals(score.score)} {bounds(score.ci)}"


def guards(summary: Summary) -> Table:
    """What the guards checked and vetoed."""
    table = plain_table("Guards")
    table.add_column("guard")
    table.add_column("checked", justify="right")
    table.add_column("vetoed", justify="right")
    table.add_column("alarms", justify="right")
    for name, guard in summary.guards.items():
        table.add_row(line(name, LONGEST), f"{guard.checked:,}", f"{guard.vetoed:,}", f"{guard.alarms:,}")
    return table


def alarm(found: AlarmFigures) -> Group:
    """An alarm of a guard, with the first attempt that caused it."""
    about = f" {line(found.variant, LONGEST)}" if found.variant else ""
    guard = line(found.guard, LONGEST)
    parts = [_indented(f"ALARM, {guard}, cycle {found.cycle}{about}: {line(found.detail)}", "red")]
    parts += [
        _indented(f"{line(each.task, LONGEST)}: {line(each.prompt)} -> {line(each.answer)}", "dim")
        for each in found.attempts[:1]
    ]
    return Group(*parts)


def cost(spent: Cost) -> Group:
    """What a server was asked and what it charged, by kind of stage."""
    table = plain_table("Asked of the server")
    table.add_column("stage")
    for name in ("requests", "tokens", f"cost {line(spent.currency)}".rstrip(), "failed"):
        table.add_column(name, justify="right")
    for stage in spent.stages:
        table.add_row(
            line(stage.stage, LONGEST),
            f"{stage.requests:,}",
            f"{stage.tokens:,}",
            line(stage.cost or ""),
            f"{stage.failed:,}",
        )
    table.add_row(
        Text("the whole run", style="bold"),
        f"{spent.requests:,}",
        f"{spent.prompt_tokens + spent.completion_tokens:,}",
        line(spent.money or ""),
        f"{sum(spent.failures.values()):,}",
    )
    return Group(table, Text("; ".join(cost_notes(spent))))


def cost_notes(spent: Cost) -> list[str]:
    """What is to be known of a server's charges beside the sums."""
    notes = [f"{spent.prompt_tokens:,} tokens read, {spent.cached_tokens:,} of them cached"]
    notes.append(f"{spent.completion_tokens:,} written")
    if spent.unmetered:
        notes.append(f"{spent.unmetered:,} calls came without usage figures and are in no sum")
    if spent.faults:
        notes.append("failed calls: " + ", ".join(f"{n:,} {line(kind)}" for kind, n in spent.faults.items()))
    if spent.reason:
        notes.append(f"the first that failed for good: {line(spent.reason)}")
    notes += said_endings(spent.endings)
    return notes + said_refused(spent.refused)


def plain_table(title: str) -> Table:
    """A table in the reports' style."""
    return Table(
        title=f"\n{line(title)}" if title else None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def _tone(gain: float | None, interval: tuple[float, float] | None) -> str:
    if gain is None or interval is None:
        return ""
    return "bold green" if interval[0] > 0 else "bold red" if interval[1] < 0 else ""
