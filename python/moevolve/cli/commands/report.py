"""Prints a run's report and writes it as one self-contained HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import followed
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="where the page goes (default: DIR/report.html)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="write the score curve alone, as SVG or PNG by the name's end",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the figures as JSON; the page only with --html"
    )


def execute(options: argparse.Namespace) -> int:
    if options.plot is not None and options.plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot writes SVG or PNG: name a file that ends so, not {options.plot}")
    with followed(options.run) as (reader, summary):
        from moevolve.report import optimisation

        found = optimisation.figures(reader, summary)
        if options.json:
            output.data(found or summary)
        else:
            from moevolve.report import terminal

            shown = terminal.report(summary, reader.view) if found is None else optimisation.show(found)
            terminal.console().print(shown)
        if options.html or not options.json:
            from moevolve.report.html import page

            file: Path = options.html or options.run / "report.html"
            file.write_text(page(summary, reader), encoding="utf-8")
            output.say(f"Wrote {file}")
        if options.plot is not None:
            from moevolve.report import png, svg

            curve = svg.scores(summary.curve) if found is None else svg.champions(found)
            if not curve:
                raise UsageError(f"{options.run} has no score to plot yet")
            drawn = png.of(curve) if options.plot.suffix == ".png" else curve.encode()
            options.plot.write_bytes(drawn)
            output.say(f"Wrote {options.plot}")
    return 0
