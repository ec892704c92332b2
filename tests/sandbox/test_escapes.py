"""Every deed of `escapes.py` meets a wall: here, as an ordinary user, and on machines that refuse namespaces."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import moevolve

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))

from escapes import DEEDS, HARMLESS  # noqa: E402

BARE = [str(Path(__file__).with_name("bare.py"))]
"""Runs a command on a machine without namespaces (x86-64)."""
USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
"""Runs a command as nobody."""


def of_everybody() -> str | None:
    """An interpreter like this one that any user may run, the product's sources and libraries included."""
    candidate = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
    version = "import sys; print(*sys.version_info[:2])"
    for command in (
        [*USER, candidate, "-c", version],
        [*USER, "cat", __file__, moevolve.__file__, msgspec.__file__],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        if command[-1] == version and done.stdout.split() != [str(part) for part in sys.version_info[:2]]:
            return None
    return candidate


def run(*arguments: str, bare: bool, user: bool) -> dict[str, Any]:
    """What `escapes.py` prints."""
    python = sys.executable
    environment = dict(os.environ)
    prefix: list[str] = []
    if user:
        found = of_everybody() if os.getuid() == 0 else sys.executable
        if found is None:
            pytest.skip("no interpreter here that every user may run")
        python = found
        prefix = USER if os.getuid() == 0 else []
    if bare:
        if platform.machine() != "x86_64":
            pytest.skip("the filter names x86-64 calls")
        prefix = [sys.executable, *BARE, *prefix]
    folders = [Path(moevolve.__file__).parents[1], Path(msgspec.__file__).parents[1]]
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [*prefix, python, str(FIXTURES / "escapes.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("bare", [False, True], ids=["all layers", "no namespaces"])
@pytest.mark.parametrize("user", [False, True], ids=["this user", "an ordinary user"])
def test_no_deed_gets_through(bare: bool, user: bool) -> None:
    found = run(bare=bare, user=user)
    assert found["told"].keys() == DEEDS.keys()
    assert {name: told for name, told in found["told"].items() if told.startswith("PASSED")} == {}
    assert not found["marks"]
    if bare:
        assert {"user namespace", "private root"} <= set(found["missing"])
    # A deed that is misspelt holds for the wrong reason.
    wrong = ("SyntaxError", "NameError", "UnboundLocalError", "timeout", "malformed")
    assert {name: told for name, told in found["told"].items() if any(each in told for each in wrong)} == {}


def test_the_same_deeds_get_through_outside() -> None:
    told = run("outside", bare=False, user=False)["told"]
    assert told == dict.fromkeys(HARMLESS, "PASSED")
