"""Audits a run: an independent reader computes again what follows from its records.

Exit codes: 0 nothing on file contradicts anything else, 1 something does, 2 there is no run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--decision",
        metavar="VARIANT",
        help="make the gate's decision about this candidate again, and nothing else",
    )
    parser.add_argument(
        "--head",
        metavar="HASH",
        help="the journal's head as it was written down elsewhere: what the run must end with",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 also where programs compute answers that the suite grants",
    )


def execute(options: argparse.Namespace) -> int:
    from moevolve.report.audited import audited, page

    report = audited(options.run, decision=options.decision, head=options.head)
    if options.json:
        output.data(report)
    else:
        print(page(report), end="")
    found = any(finding.kind == "finding" for finding in report.findings)
    return 1 if options.strict and found else report.exit_code
