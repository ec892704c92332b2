"""What outlives the host: nothing, with all layers and on a machine that refuses namespaces."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOST = """
import sys
from moevolve import _native
from moevolve.agents.readable import interpreter_files
paths = interpreter_files()
code = sys.argv[1]
process = _native.spawn(paths.interpreter, ["-I", "-S", "-c", code], [], paths.readable, paths.executable,
                        hidden=paths.hidden, memory=1 << 28, cpu_seconds=50, processes=int(sys.argv[2]))
try:
    process.receive(10, 1.0)
except Exception:
    pass
print(process.pid, *process.missing, sep="\\n", flush=True)
try:
    process.receive(10, 60.0)
except Exception as error:
    print(error, flush=True)
"""

BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
MACHINES = [
    pytest.param([], id="all layers"),
    pytest.param(
        BARE,
        id="no namespaces",
        marks=pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter names x86-64 calls"),
    ),
]

SLEEPERS = {
    "waits": ("import os; r, w = os.pipe(); os.read(r, 1)", 1),
    "ignores signals": (
        "import os, _signal\nfor n in (1, 2, 13, 15): _signal.signal(n, 1)\nos.read(os.pipe()[0], 1)",
        1,
    ),
    "orphans": ("import os\nif os.fork(): os._exit(0)\nos.fork()\nos.read(os.pipe()[0], 1)", 64),
}


def alive(group: int) -> list[str]:
    """Processes of a session that are no zombies."""
    lines = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            lines.append(str(stat))
    return lines


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("sleeper", SLEEPERS)
def test_nothing_is_left_a_second_after_the_host_was_killed(machine, sleeper):
    code, processes = SLEEPERS[sleeper]
    command = [*machine, sys.executable, "-c", HOST, code, str(processes)]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert host.stdout is not None
    group = int(host.stdout.readline())
    host.send_signal(signal.SIGKILL)
    host.wait()
    deadline = time.monotonic() + 1.0
    while alive(group):
        assert time.monotonic() < deadline, alive(group)
        time.sleep(0.01)


@pytest.mark.parametrize("machine", MACHINES[1:])
def test_missing_namespaces_are_named_and_strict_refuses(machine):
    code = "from moevolve.agents.process import in_force; print(*in_force().missing, sep=', ')"
    told = subprocess.run(
        [*machine, sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "user namespace" in told and "private root" in told
    assert "seccomp" not in told and "landlock" not in told and "virtual clock" not in told
