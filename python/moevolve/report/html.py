"""A run's report as one HTML page that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from moevolve.records import Entry
from moevolve.report import svg
from moevolve.report.lineage import lineage
from moevolve.report.sentences import amount, duration, sentence
from moevolve.report.summary import Summary
from moevolve.report.terminal import evidence

EVENTS = 2000
"""Most events in the page, the newest."""


def page(summary: Summary, entries: Sequence[Entry]) -> str:
    """The page's text.

    Args:
        summary: the run's figures.
        entries: its journal.
    """
    environment = Environment(
        loader=PackageLoader("moevolve.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "amount": amount,
        "duration": duration,
        "evidence": evidence,
        "interval": lambda ci: f"[{ci[0]:.3f}, {ci[1]:.3f}]" if ci else "",
        "score": lambda value: "-" if value is None else f"{value:.3f}",
        "signed": lambda value: "-" if value is None else f"{value:+.3f}",
        "signed_interval": lambda ci: f"[{ci[0]:+.3f}, {ci[1]:+.3f}]" if ci else "",
        "tone": lambda ci: "good" if ci and ci[0] > 0 else "bad" if ci and ci[1] < 0 else "",
    }
    training = svg.training(entries)
    return environment.get_template("report.html.j2").render(
        s=summary,
        lineage=lineage(entries),
        events=[(entry.timing.at, sentence(entry.record)) for entry in entries[-EVENTS:]],
        # The charts are elements that pygal has escaped itself.
        scores_svg=Markup(svg.scores(summary.curve)) if summary.curve else "",
        skills_svg=Markup(svg.skills(summary.skills)) if summary.skills else "",
        training_svg=Markup(training) if training else "",
    )
