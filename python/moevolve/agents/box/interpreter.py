"""The interpreter that a box runs: where it lies, what it imports from, and what of this machine it needs to see."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import msgspec

from moevolve.errors import UsageError

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/nsswitch.conf", "/etc/mime.types",
)  # fmt: skip
"""Of the system: its programs and libraries, and no settings of anybody's."""

ASKED = """
import json, os, sys
print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable), sys.path]))
"""


class Interpreter(msgspec.Struct, frozen=True):
    """A Python interpreter of this machine."""

    program: str
    path: tuple[str, ...]
    """What it imports from, without the folder of whoever starts it."""
    places: tuple[str, ...]
    """What it needs to see, the system's own included."""

    @property
    def folder(self) -> str:
        """Where its programs lie."""
        return str(Path(self.program).parent)


@lru_cache(32)
def interpreter(wanted: str | None) -> Interpreter:
    """The interpreter of a virtual environment or at a path; None for the one that runs this.

    Raises:
        UsageError: there is none, or it does not start.
    """
    program = Path(wanted) if wanted is not None else Path(sys.executable)
    if program.is_dir():
        program = program / "bin" / "python"
    if not program.is_absolute():
        raise UsageError(f"agent.toml: `python` is an absolute path, not {wanted!r}")
    try:
        said = subprocess.run(
            [program, "-I", "-c", ASKED],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(
            f"agent.toml: `python` names no interpreter that starts, {program}: {error}"
        ) from None
    prefix, base, other, real, path = json.loads(said)
    own = [
        folder
        for folder in (prefix, base, other, str(Path(real).parent), *path)
        if folder not in ("", "/", "/usr")
    ]
    return Interpreter(str(program), tuple(filter(None, path)), (*SYSTEM, *own))
