"""Inputs that nothing can be made of: exit 2 and one line, within ten seconds and a gibibyte, whatever they are.

Thirty of the catalogue by default, one in so many of each kind; MOEVOLVE_CORRUPT=all tries all of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from corrupt import catalogue
from leash import limited

LONGEST = 1300
"""Characters of the line: an error's thousand, and a path."""

ALL = catalogue()
CHOSEN = list(ALL) if os.environ.get("MOEVOLVE_CORRUPT") == "all" else list(ALL)[:: len(ALL) // 30]


@pytest.mark.parametrize("name", CHOSEN)
def test_it_ends_with_one_line(tmp_path: Path, name: str) -> None:
    words = ALL[name](tmp_path)
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        preexec_fn=limited,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.count("\n") == 1 and done.stderr.strip() and len(done.stderr) <= LONGEST
    assert "panicked" not in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_catalogue_is_large_and_of_every_kind() -> None:
    kinds = {name.partition(":")[0] for name in ALL}
    assert len(ALL) >= 1_000
    assert kinds >= {
        "gguf",
        "weights",
        "config",
        "tokenizer",
        "template",
        "adapter",
        "odd",
        "suite",
        "agent",
        "run",
        "form",
    }
