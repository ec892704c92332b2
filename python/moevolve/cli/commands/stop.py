"""Ends a run in order after the stage under way: the champion is scored, and the journal closed."""

from __future__ import annotations

import argparse

from moevolve.cli.asking import ask, run_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)


def execute(options: argparse.Namespace) -> int:
    return ask(options.run, "stop")
