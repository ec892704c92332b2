"""Writes a commented configuration to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from moevolve.cli.output import say
from moevolve.config import Config
from moevolve.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path("moevolve.toml"), help="default: moevolve.toml"
    )
    parser.add_argument("--preset", default="quickstart", help="whose values to write (default: quickstart)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def execute(options: argparse.Namespace) -> int:
    config = Config.load(options.preset)
    head = (
        f"# A run's configuration: `moevolve run {options.file}`. A key that is left out has its default.\n\n"
    )
    text = head + config.toml(comments=True)
    if str(options.file) == "-":
        print(text, end="")
        return 0
    try:
        with options.file.open("w" if options.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{options.file} exists: name another file, or replace it with --force") from None
    say(f"Wrote {options.file}; `moevolve run {options.file}` runs it.")
    return 0
