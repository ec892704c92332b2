"""A run's report as one HTML page that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from moevolve.journal.figures import (
    amount,
    bounds,
    decimals,
    duration,
    evidence,
    level,
    needed,
    number,
    signed,
)
from moevolve.journal.kinds.variants import fate_of
from moevolve.journal.reader import RunReader
from moevolve.journal.text import line, lines
from moevolve.journal.variants import Fate
from moevolve.journal.view import describe
from moevolve.records import Struct
from moevolve.report import optimisation, sources, svg
from moevolve.report.search import lines as earned_lines
from moevolve.report.summary import Summary
from moevolve.report.terminal import change, cost_notes, memory_words, sealed

EVENTS = 2000
"""Most events in the page, the newest."""
MOST = 100_000
"""Characters of one text in the page."""
ROWS = 2000
"""Most variants in the page: the newest, and the champion's ancestors."""


class LineageRow(Struct, frozen=True):
    """A variant in the order of a tree that is read from the top."""

    variant: str
    depth: int
    level: str
    cycle: int
    fate: Fate
    score: float | None
    rating: float | None
    """What an evaluator gave it."""
    gain: float | None
    also_from: str
    """The second parent, where weights and program come from two variants."""
    summary: str
    champion: bool
    ancestor: bool
    """Whether it is the champion or one of the champion's ancestors."""


def lineage(reader: RunReader) -> Iterator[LineageRow]:
    """The variants as a tree, children under their first parent in order of birth."""
    variants = reader.view.variants
    crowned = variants.row(reader.view.champion)
    ancestors = set(variants.ancestry(crowned)) if crowned is not None else set()
    for row, depth in variants.tree():
        if row in ancestors or row >= len(variants) - ROWS:
            yield LineageRow(
                variant=line(variants.name(row)),
                depth=depth,
                level=variants.level(row),
                cycle=variants.cycle(row),
                fate=variants.fate(row),
                score=variants.screening(row),
                rating=reader.view.ratings.score(row),
                gain=variants.gain(row),
                also_from=", ".join(line(variants.name(parent)) for parent in variants.parents(row)[1:]),
                summary=line(reader.variant(row).summary),
                champion=row == crowned,
                ancestor=row in ancestors,
            )


def page(summary: Summary, reader: RunReader) -> str:
    """The page's text.

    Args:
        summary: the run's figures.
        reader: its journal, read to the end.
    """
    environment = Environment(
        loader=PackageLoader("moevolve.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_harmless,
    )
    environment.filters |= {
        "amount": amount,
        "breakable": _breakable,
        "duration": duration,
        "fate": fate_of,
        "evidence": evidence,
        "interval": bounds,
        "line": line,
        "needed": needed,
        "number": number,
        "score": decimals,
        "signed": signed,
        "signed_interval": lambda ci: bounds(ci, sign=True),
        "tone": lambda ci: "good" if ci and ci[0] > 0 else "bad" if ci and ci[1] < 0 else "",
    }
    first = max(0, reader.view.entries - EVENTS)
    settings = (
        json.dumps(json.loads(reader.started.config), indent=2, sort_keys=True)
        if reader.started.config
        else ""
    )
    training = svg.training(reader.view.losses)
    rated = optimisation.figures(reader, summary)
    return environment.get_template("report.html.j2").render(
        s=summary,
        o=rated,
        champions_svg=Markup(svg.champions(rated)) if rated else "",
        level=level,
        gains={path: skill.gain for path, skill in reader.view.skills.items()},
        changes=[(each, Markup("\n").join(map(_diff_line, each.diff))) for each in sources.changes(reader)],
        sessions=sources.sessions(reader),
        trained=sources.trained(reader),
        settings=Markup(escape(lines(settings))),
        split="sealed" if sealed(summary) else "dev",
        memory=memory_words(summary.memory),
        nulls=optimisation.nulls_line(rated)
        if rated
        else describe(summary.nulls)[0]
        if summary.nulls is not None
        else "",
        earned=[
            each.strip()
            for each in earned_lines(
                summary.proposers, summary.operators, summary.accepted, rated=rated is not None
            )
        ],
        cost_notes=[] if summary.cost is None else cost_notes(summary.cost),
        change=lambda skill: change(summary, skill),
        lineage=list(lineage(reader)),
        events=[
            (entry.timing.at, describe(entry.record)[0])
            for entry in map(reader.entry, range(first, reader.view.entries))
        ],
        # The charts are elements whose texts are escaped.
        scores_svg=Markup(svg.scores(summary.curve)) if summary.curve else "",
        skills_svg=Markup(svg.skills(summary.skills)) if sealed(summary) and summary.skills else "",
        training_svg=Markup(training) if training else "",
    )


def _diff_line(text: str) -> Markup:
    """A line of a diff as an element that says by a word of its class what it is."""
    kind = {"+": "add", "-": "del", "@": "hunk"}.get(text[:1], "same")
    return Markup('<span class="{}">{}</span>').format(kind, lines(text))


def _breakable(path: str) -> Markup:
    """A skill's path that may be broken between its words, so that a narrow table stays one."""
    return Markup(str(escape(line(path))).replace("/", "/<wbr>").replace("_", "_<wbr>"))


def _harmless(value: object) -> object:
    """Whatever a template puts into the page: text passes as one harmless line, elements as they are."""
    return line(value, MOST) if isinstance(value, str) and not isinstance(value, Markup) else value
