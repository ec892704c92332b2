"""Files that somebody else made: read whole within a bound, and never waited for."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any

from moevolve.errors import UsageError

MOST = 32 << 20
"""Bytes of a file of settings, a form, or a source."""
MOST_PARTS = 64
"""Parts of a dotted key in TOML: its reader takes the square of them in time."""
HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Where a shell puts a pipe that stands for a file, `<(...)`: its writer is there already."""


def read_bytes(path: str | Path, most: int = MOST) -> bytes:
    """The bytes of a file.

    Raises:
        UsageError: it is no plain file (a pipe that nobody may ever write into, a device, a socket), or larger than `most`.
        OSError: it cannot be opened or read.
    """
    # Nothing of what may stand there holds an opening of this kind up.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISFIFO(status.st_mode) and str(path).startswith(HANDED_OVER):
            os.set_blocking(descriptor, True)
        elif not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: is not a plain file")
        if status.st_size > most:
            raise UsageError(f"{path}: has {status.st_size} bytes; at most {most >> 20} MiB are read")
        # A file of `/proc` tells no size, and may have nothing to say yet.
        data = file.read(most + 1) or b""
    if len(data) > most:
        raise UsageError(f"{path}: has more than {most >> 20} MiB, which is what is read")
    return data


def read_text(path: str | Path, most: int = MOST, encoding: str = "utf-8-sig") -> str:
    """The text of a file, without the byte order mark that some editors begin it with; line ends are line feeds; errors as
    of `read_bytes`, and UnicodeDecodeError."""
    return read_bytes(path, most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_toml(said: str) -> dict[str, Any]:
    """What a text in TOML says.

    Raises:
        tomllib.TOMLDecodeError: it is none, or says it in a way that takes a stack, or minutes, to read.
    """
    for line in said.split("\n"):
        parts = line.partition("=")[0].split(".")
        if len(parts) > MOST_PARTS and all(part.strip() and " " not in part.strip() for part in parts):
            raise tomllib.TOMLDecodeError(f"a key has {len(parts)} parts; {MOST_PARTS} at most")
    try:
        return tomllib.loads(said)
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deep") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # a number of more digits than Python reads
        raise tomllib.TOMLDecodeError(str(error)) from None


def typed(path: Path) -> str:
    """A path as it is typed in a shell, for commands in messages: one word, and no option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
