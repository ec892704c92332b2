"""Writes something to start from: a commented configuration, an agent of one's own, or a suite of one's own."""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from moevolve.cli.output import say
from moevolve.config import Config
from moevolve.config.files import typed
from moevolve.errors import UsageError

KINDS = ("agent", "suite")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="moevolve.toml",
        metavar="agent|suite|FILE",
        help="an agent, a suite, or a configuration's file (default: moevolve.toml)",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="of an agent or a suite: its folder"
    )
    parser.add_argument("--tools", action="store_true", help="of an agent: one that calls a suite's tools")
    parser.add_argument(
        "--verifiers",
        metavar="NAME",
        help="of a suite: tasks and rewards of this installed environment of verifiers",
    )
    parser.add_argument(
        "--arguments", default="{}", metavar="JSON", help="of that environment: what it is made with"
    )
    parser.add_argument(
        "--tasks",
        type=int,
        default=1000,
        metavar="N",
        help="of that environment: tasks, at most (default: 1000)",
    )
    parser.add_argument("--preset", default="quickstart", help="whose values to write (default: quickstart)")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def execute(options: argparse.Namespace) -> int:
    if options.what in KINDS:
        if options.tools and options.what != "agent":
            raise UsageError("--tools is of `init agent`")
        if options.verifiers is not None:
            return _environment(options)
        example = "tool-agent" if options.tools else options.what
        return _folder(example, options.folder or Path(options.what), options.force)
    if options.folder is not None:
        raise UsageError(
            f"`init {options.what}` takes no folder: there are `init agent DIR` and `init suite DIR`"
        )
    return _configuration(options)


def _environment(options: argparse.Namespace) -> int:
    """Writes an installed environment of verifiers as a suite."""
    from moevolve.tasks import verifiers

    if options.what != "suite":
        raise UsageError("--verifiers is of `init suite`")
    folder = options.folder or Path(options.what)
    if folder.exists() and any(folder.iterdir()) and not options.force:
        raise UsageError(f"{folder} is not empty: name another folder, or write into it with --force")
    try:
        arguments = json.loads(options.arguments)
    except json.JSONDecodeError as error:
        raise UsageError(f"--arguments is no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise UsageError("--arguments must be a JSON object")
    said = verifiers.write(options.verifiers, folder, arguments, options.tasks)
    say(f"Wrote {said} into {folder}.")
    say(f"`moevolve validate {typed(folder)}` proves it; `moevolve run --suite {typed(folder)}` works on it.")
    return 0


def _folder(kind: str, folder: Path, force: bool) -> int:
    """Writes the example of a kind into a folder."""
    examples = dict(_files(files("moevolve") / "templates" / kind, ""))
    there = [name for name in examples if (folder / name).exists()]
    if there and not force:
        raise UsageError(f"{folder / there[0]} exists: name another folder, or replace it with --force")
    for name, text in examples.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    say(f"Wrote {', '.join(sorted(examples))} into {folder}.")
    say(
        f"`moevolve eval SUITE --agent {typed(folder)}` scores it; "
        f"`moevolve run --agent {typed(folder)} --suite SUITE` evolves it."
        if kind != "suite"
        else f"`moevolve validate {typed(folder)}` proves it; `moevolve run --suite {typed(folder)}` works on it."
    )
    return 0


def _files(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((f"{prefix}{entry.name}", entry.read_text(encoding="utf-8")))
    return sorted(found)


def _configuration(options: argparse.Namespace) -> int:
    file = Path(options.what)
    config = Config.load(options.preset)
    head = (
        f"# A run's configuration: `moevolve run {typed(file)}`. A key that is left out has its default.\n\n"
    )
    text = head + config.toml(comments=True)
    if str(file) == "-":
        print(text, end="")
        return 0
    try:
        with file.open("w" if options.force else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists: name another file, or replace it with --force") from None
    say(f"Wrote {file}; `moevolve run {typed(file)}` runs it.")
    return 0
