"""An audit beside what readers show: the independent reader's report, compared with the figures of `moevolve show`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from moevolve.auditor import AuditReport, audit, compare
from moevolve.journal.store import RunStore
from moevolve.journal.text import line
from moevolve.report.summary import summary_of

WIDEST = 240
"""Characters of one line of the page."""


def audited(path: str | Path, *, decision: str | None = None, head: str | None = None) -> AuditReport:
    """Audits a run; see `moevolve.auditor`.

    Where nothing else is wrong, the figures that `moevolve show` prints are compared as well.

    Args:
        path: the run's folder.
        decision: make the decision about this candidate again, and look at nothing but the chain besides.
        head: the journal's head as it was written down elsewhere.

    Raises:
        UsageError: the folder holds no run, or the run no decision about this candidate.
        StoreError: the run's journal changes too fast to be read.
    """
    report = audit(path, decision=decision, head=head)
    if report.ok and report.state != "running" and decision is None and report.chain.entries:
        with RunStore.open(Path(path)) as store:
            compare(report, msgspec.to_builtins(summary_of(store)))
    return report


def page(report: AuditReport) -> str:
    """A report as one page of text that is harmless to show."""
    return report.text(lambda text: line(text, WIDEST))
