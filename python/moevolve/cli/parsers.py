"""The parsers of all commands: what `--help` shows, what a shell completes, and what the reference page is written from."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from importlib import import_module

from moevolve import __version__

COMMANDS = {
    "run": "start a run from a preset or a TOML file",
    "resume": "go on with a run that was interrupted",
    "approve": "let a candidate that waits become the champion",
    "reject": "refuse a candidate that waits",
    "pause": "pause a run once its cycle has ended",
    "stop": "end a run in order",
    "watch": "follow a run on a live screen",
    "show": "a run's figures",
    "ls": "the runs in a folder",
    "report": "a run's report, in the terminal and as an HTML page",
    "compare": "runs side by side",
    "audit": "compute again what follows from a run's records",
    "diff": "what two variants of a run differ in",
    "export": "a run's weights, program, skills or agent, as files of their own",
    "import": "try a program from elsewhere in a run",
    "replay": "do a run again and compare the journals",
    "eval": "score an agent on a suite, without evolving it",
    "tasks": "a suite's skills and some of its tasks",
    "validate": "prove a suite: its gold answers, its cheap ones, what it can detect",
    "generate": "let a model complete prompts, or chat with it",
    "serve": "answer OpenAI's clients with a model, or a run's champion",
    "learned": "what a server that learns has kept and learnt",
    "plan": "what a model weighs, and where it fits",
    "skills": "a suite's skill tree, or a run's",
    "memory": "lessons: search, show, add, pin, forget, export, import",
    "doctor": "what is in force on this machine",
    "init": "write a configuration, an agent or a suite to start from",
    "completion": "a script that completes commands and options in a shell",
    "help": "what the commands are, or how one is used",
}


def face() -> argparse.ArgumentParser:
    """The parser of the bare `moevolve`, whose help lists the commands."""
    parser = argparse.ArgumentParser(
        prog="moevolve",
        description="Models that evolve their weights and their program, behind a sealed grader.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            ["commands:", *(f"  {name:<10}{what}" for name, what in COMMANDS.items()), ""]
            + ["`moevolve COMMAND --help` says more."]
        ),
        usage="moevolve COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"moevolve {__version__}")
    return parser


def unknown(name: str) -> str:
    """What is said of a word that is no command."""
    close = get_close_matches(name, COMMANDS, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown command `{name}`{hint}: commands are {', '.join(COMMANDS)}"


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command; imports its module."""
    module = import_module(f"moevolve.cli.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"moevolve {name}", description=module.__doc__, allow_abbrev=False)
    module.arguments(parser)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every command below it, as completion generators want it; imports every command's module."""
    whole = argparse.ArgumentParser(prog="moevolve")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, summary in COMMANDS.items():
        module = import_module(f"moevolve.cli.commands.{name}")
        module.arguments(commands.add_parser(name, help=summary))
    return whole


def reference() -> str:
    """The reference page of the command line, in Markdown: every command with its arguments, as `--help` has them."""
    lines = [
        "# Command line",
        "",
        "Written by `python -m moevolve.cli.reference`; a test keeps it equal to `--help`.",
        "stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run failed, 2 usage or configuration,",
        "3 refused for safety, 130 interrupted.",
    ]
    for name in COMMANDS:
        parser = command_parser(name)
        lines += ["", f"## moevolve {name}", "", (parser.description or "").strip(), ""]
        lines += ["| argument | meaning |", "|---|---|"]
        for action in parser._actions:
            if action.help is not argparse.SUPPRESS and action.dest != "help":
                lines.append(f"| `{_spelled(action)}` | {_cell(action.help or '')} |")
    return "\n".join(lines) + "\n"


def _spelled(action: argparse.Action) -> str:
    """An argument as one types it."""
    shown = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = " ".join(shown) if isinstance(shown, tuple) else str(shown)
    if action.nargs in ("*", "+"):
        value = f"{value} ..."
    if not action.option_strings:
        return _cell(f"[{value}]" if action.nargs in ("?", "*") else value)
    flags = ", ".join(action.option_strings)
    return _cell(flags if action.nargs == 0 else f"{flags} {value}")


def _cell(text: str) -> str:
    return " ".join(text.replace("%%", "%").split()).replace("|", "\\|")
