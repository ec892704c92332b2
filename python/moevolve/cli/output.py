"""What a command puts on stdout, and what it says on stderr."""

from __future__ import annotations

import sys

import msgspec

from moevolve.journal.text import lines


def data(value: object) -> None:
    """Prints a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def line(value: object) -> None:
    """Prints a value as one line of JSON, at once."""
    print(msgspec.json.encode(value).decode(), flush=True)


def say(text: str) -> None:
    """Tells the person what is going on; what others wrote into the text steers no terminal."""
    print(lines(text), file=sys.stderr, flush=True)
