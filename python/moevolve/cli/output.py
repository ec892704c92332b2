"""What a command puts on stdout, and what it says on stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import msgspec

from moevolve.journal.text import json_text, message


def data(value: object) -> None:
    """Prints a value as indented JSON."""
    print(json_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def line(value: object) -> None:
    """Prints a value as one line of JSON, at once."""
    print(json_text(msgspec.json.encode(value).decode()), flush=True)


def deaf(*streams: TextIO) -> None:
    """Leads streams whose reader has left to nowhere, so that no later word raises."""
    for stream in streams:
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def say(text: str) -> None:
    """Tells the person what is going on; what others wrote into the text steers no terminal."""
    print(message(text), file=sys.stderr, flush=True)
