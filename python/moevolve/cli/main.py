"""The command line: which command, and what becomes of errors.

- A command's module is imported once it is known to be wanted: `moevolve --help` costs no more than argparse.
- stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run failed, 2 usage or configuration, 3 refused
  for safety, 130 interrupted.
- An error that the package raises on purpose is one message on stderr. Anything else is a defect and keeps
  its traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from importlib import import_module

from moevolve.cli.parsers import COMMANDS, command_parser, face, unknown
from moevolve.errors import MoevolveError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in COMMANDS:
        return _execute(words[0], words[1:])
    if words and not words[0].startswith("-"):
        return _refuse(unknown(words[0]))
    parser = face()
    try:
        parser.parse_args(words)
        parser.print_help(sys.stderr)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 2


def _execute(name: str, words: Sequence[str]) -> int:
    parser = command_parser(name)
    try:
        options = parser.parse_args(words)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    try:
        code = int(import_module(f"moevolve.cli.commands.{name}").execute(options))
        sys.stdout.flush()
        return code
    except MoevolveError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Who read our output has seen enough. Python would complain once more while it closes stdout.
        from moevolve.cli.output import deaf

        deaf(sys.stdout)
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        if error.errno == errno.ENOSPC:
            return _refuse(
                f"no space left on the device{where}; what was committed is safe, and `resume` goes on", 1
            )
        return _refuse(f"{error.strerror or error}:{where}" if where else str(error), 1)


def _refuse(message: str, code: int = 2) -> int:
    from moevolve.journal.text import message as harmless

    print(f"moevolve: {harmless(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
