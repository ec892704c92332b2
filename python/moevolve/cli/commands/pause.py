"""Ends a run's process once the cycle under way has ended; `resume` goes on with the next one."""

from __future__ import annotations

import argparse

from moevolve.cli.asking import ask, run_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)


def execute(options: argparse.Namespace) -> int:
    return ask(options.run, "pause")
