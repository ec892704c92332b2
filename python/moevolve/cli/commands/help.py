"""Says what the commands are, or how one of them is used: the same as --help."""

from __future__ import annotations

import argparse

from moevolve.cli.parsers import COMMANDS, command_parser, face, unknown
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="a command (default: all of them)")


def execute(options: argparse.Namespace) -> int:
    if options.command is not None and options.command not in COMMANDS:
        raise UsageError(unknown(options.command))
    (face() if options.command is None else command_parser(options.command)).print_help()
    return 0
