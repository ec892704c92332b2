"""Prints what two variants of a run differ in: the program's diff, and whether the weights changed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from moevolve.agents.genome import Genome
from moevolve.cli import output
from moevolve.cli.reading import opened
from moevolve.config import nearest
from moevolve.errors import UsageError
from moevolve.journal.reader import RunReader, read
from moevolve.journal.text import lines
from moevolve.records import VariantAdded


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("a", metavar="A", help="a variant's name, or `seed` or `champion`")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="print the difference as JSON")


def execute(options: argparse.Namespace) -> int:
    with opened(options.run) as store:
        reader = read(store)
        first, second = (_variant(name, reader, options.run) for name in (options.a, options.b))
        before, after = (
            Genome(files=msgspec.msgpack.decode(store.blob(variant.program), type=dict[str, str]))
            for variant in (first, second)
        )
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
        else f"changed, {first.weights[:12]} to {second.weights[:12]}"
    )
    print(f"weights: {weights}")
    print(f"program: {'changed' if text else 'the same'}")
    print(lines(text) if sys.stdout.isatty() else text, end="")
    return 0


def _variant(name: str, reader: RunReader, run: Path) -> VariantAdded:
    variants = reader.view.variants
    row = 0 if name == "seed" else variants.row(reader.view.champion if name == "champion" else name)
    if row is None or row >= len(variants):
        names = [variants.name(row) for row in range(len(variants))]
        raise UsageError(
            f"{run} has no variant `{name}`{nearest(name, names)}: it has {len(variants)}, "
            f"and `seed` and `champion` name two of them"
        )
    return reader.variant(row)
