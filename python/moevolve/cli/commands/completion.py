"""Prints a script that completes commands and options: `eval "$(moevolve completion bash)"`."""

from __future__ import annotations

import argparse

from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that reads the script")


def execute(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        raise UsageError(
            "completion scripts are written by shtab, and it is not installed: pip install 'moevolve[completion]'"
        ) from None
    from moevolve.cli.parsers import whole_parser

    print(shtab.complete(whole_parser(), options.shell))
    return 0
