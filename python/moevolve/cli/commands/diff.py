"""Prints what two variants of a run differ in: the program's diff, and whether the weights changed."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli import output
from moevolve.cli.reading import opened, variant_of
from moevolve.journal.reader import read
from moevolve.journal.text import line, lines


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("a", metavar="A", help="a variant's name, or `seed` or `champion`")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="print the difference as JSON")


def execute(options: argparse.Namespace) -> int:
    from moevolve.loop.variants import genome_in

    with opened(options.run) as store:
        reader = read(store)
        first, second = (variant_of(name, reader, options.run) for name in (options.a, options.b))
        before, after = (genome_in(store, variant.program) for variant in (first, second))
    text = before.diff(after)
    if options.json:
        output.data(
            {
                "a": first,
                "b": second,
                "weights_changed": first.weights != second.weights,
                "program_changed": first.program != second.program,
                "diff": text,
            }
        )
        return 0
    weights = (
        "the same"
        if first.weights == second.weights
        else f"changed, {line(first.weights[:12])} to {line(second.weights[:12])}"
    )
    print(f"weights: {weights}")
    print(f"program: {'changed' if text else 'the same'}")
    print(lines(text), end="")
    return 0
