"""The binding: frames, deadlines, and our own errors. What a child cannot do is tested in Rust."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from moevolve import _native
from moevolve.agents.process import in_force
from moevolve.agents.readable import interpreter_files
from moevolve.errors import SafetyError, SandboxError

ECHO = """
import os
while True:
    head = os.read(0, 4)
    body = b""
    while len(body) < int.from_bytes(head, "little"):
        body += os.read(0, 1 << 16)
    os.write(1, head + body)
"""


def spawn(code: str, **changes):
    paths = interpreter_files()
    fields: dict[str, Any] = {"memory": 256 << 20, "cpu_seconds": 5, "hidden": paths.hidden} | changes
    arguments = ["-I", "-S", "-c", code]
    return _native.spawn(paths.interpreter, arguments, [], paths.readable, paths.executable, **fields)


def test_probe_names_the_in_force():
    walls = in_force()
    assert not set(walls.layers) & set(walls.missing)
    assert {"landlock", "seccomp", "virtual clock", "pid namespace"} <= {*walls.layers, *walls.missing}
    process = spawn(ECHO)
    assert ([*process.layers, "limits"], process.missing) == (walls.layers, walls.missing)


def test_frames_go_there_and_back():
    process = spawn(ECHO)
    for body in (b"x", b"hello" * 100):
        process.send(body, 5.0)
        assert process.receive(1 << 20, 5.0) == body
    assert "SIGKILL" in process.close()


def test_a_deadline_is_a_timeout_error():
    process = spawn("while True: pass")
    with pytest.raises(TimeoutError):
        process.receive(10, 0.02)
    with pytest.raises(TimeoutError):
        process.send(b"x" * (1 << 20), 0.02)


def test_an_oversized_frame_is_a_value_error():
    with pytest.raises(ValueError, match="more than 10"):
        spawn("import os; os.write(1, b'\\xff' * 8)").receive(10, 5.0)


def test_death_tells_its_last_words():
    process = spawn("raise SystemExit('farewell')")
    with pytest.raises(SandboxError, match="exit status 1.*farewell"):
        process.receive(10, 5.0)
    assert process.stderr() == "farewell\n"


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(SandboxError, match="execute"):
        _native.spawn("/nowhere", [], [], [], [], memory=1 << 28, cpu_seconds=1)


def test_strict_refuses_only_what_is_incomplete():
    if in_force().missing:
        with pytest.raises(SafetyError):
            spawn(ECHO, strict=True)
    else:
        spawn(ECHO, strict=True).close()


def test_closing_leaves_no_process():
    process = spawn(ECHO)
    pid = process.pid
    assert Path(f"/proc/{pid}").exists()
    process.close()
    process.close()
    assert not Path(f"/proc/{pid}").exists()


def test_the_interpreter_is_this_one():
    process = spawn(
        "import os, sys; v = repr(sys.version).encode(); os.write(1, len(v).to_bytes(4, 'little') + v)"
    )
    assert process.receive(1000, 5.0).decode() == repr(sys.version)
