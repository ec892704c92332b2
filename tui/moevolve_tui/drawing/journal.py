"""The event log: one line a record, with the run's time in front."""

from __future__ import annotations

from moevolve.journal.drawing.lines import Line, fit
from moevolve.journal.figures import duration
from moevolve_tui.model import LogLine


def matches(text: str, wanted: str) -> bool:
    """Whether every word of the filter occurs in the text, in any case and order."""
    text = text.casefold()
    return all(word in text for word in wanted.casefold().split())


def log_line(line: LogLine, width: int) -> Line:
    """`12:05 Cycle 3 starts from v0007`."""
    return fit([(f"{duration(line.at):>7} ", "faint"), (line.text, line.tone)], width)
