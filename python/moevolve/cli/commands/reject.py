"""Refuses a candidate that waits for a person."""

from __future__ import annotations

import argparse

from moevolve.cli.asking import ask, run_argument, variant_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    variant_argument(parser)


def execute(options: argparse.Namespace) -> int:
    return ask(options.run, "reject", options.variant)
