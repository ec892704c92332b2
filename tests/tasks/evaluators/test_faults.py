"""What a program can do to its evaluation: each deed costs one candidate, by its name, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess

WALLS = pytest.mark.parametrize("walls", [True, False], ids=["walls", "no-namespaces"])
LIMITS = EvaluatorLimits(seconds=3, memory_mb=512, processes=8, output_kb=64, disk_mb=8)
GOOD = "def score(): return 1.5\n"

DEEDS = {
    "hangs": ("while True: pass", "timeout"),
    "sleeps": ("import time\ntime.sleep(10**6)", "timeout"),
    "hangs in a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(10**6,)).start()\ntime.sleep(10**6)",
        "timeout",
    ),
    "ignores signals": (
        "import signal, time\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(10**6)",
        "timeout",
    ),
    "exits": ("import os\nos._exit(0)", "crashed"),
    "exits by name": ("raise SystemExit(0)", "error"),
    "aborts": ("import os\nos.abort()", "crashed"),
    "kills itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "crashed"),
    "kills everybody": ("import os, signal\nos.kill(-1, signal.SIGKILL)", "error"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "crashed"),
    "raises": ("raise ValueError('no')", "error"),
    "raises what is no Exception": ("import asyncio\nraise asyncio.CancelledError", "error"),
    "raises what cannot be said": (
        "class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute",
        "error",
    ),
    "takes away who says exceptions": (
        "import sys\nsys.__excepthook__ = sys.stderr = None\nraise ValueError",
        "error",
    ),
    "recurses": ("def f(): f()\nf()", "error"),
    "no syntax": ("def (", "error"),
    "allocates": ("x = bytearray(8 << 30)", "memory"),
    "allocates bit by bit": ("x = []\nwhile True: x.append(bytearray(1 << 24))", "memory"),
    "shares memory among processes": (
        "import mmap, os, time\nfor n in range(3):\n"
        "    if not os.fork():\n        m = mmap.mmap(-1, 300 << 20)\n"
        "        [m.write(b'x' * (1 << 20)) for _ in range(300)]\n"
        "        time.sleep(10**6)\ntime.sleep(10**6)",
        "memory",
    ),
    "stops itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "timeout"),
    "interrupts itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGINT)", "error"),
    "hides behind an unreadable folder": (
        "import os\nos.makedirs('/tmp/a/b')\nos.chmod('/tmp/a', 0)\nos.chmod('/tmp/candidate', 0)\nraise ValueError",
        "error",
    ),
    "forks a daemon": (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(10**6)\n    os._exit(0)",
        "left_processes",
    ),
    "leaves a child": ("import subprocess\nsubprocess.Popen(['sleep', '1000'])", "left_processes"),
    "forks without end": (
        "import os, time\nwhile True:\n    if not os.fork(): time.sleep(10**6)",
        "processes",
    ),
    "prints without end": ("while True: print('x' * 1000)", "output"),
    "prints to the descriptor": ("import os\nwhile True: os.write(2, b'x' * 4096)", "output"),
    "returns NaN": ("def score(): return float('nan')", "not_a_number"),
    "returns infinity": ("def score(): return float('inf')", "infinite"),
    "returns a text": ("def score(): return 'very good'", "wrong_type"),
    "returns a number as a text": ("def score(): return '1.0'", "wrong_type"),
    "returns nothing": ("def score(): return None", "wrong_type"),
    "returns an array": ("def score(): return [1.0]", "wrong_type"),
    "returns what fails to be a number": (
        "class Evil:\n    def __float__(self): raise KeyError('no')\ndef score(): return Evil()",
        "error",
    ),
    "returns too large an integer": ("def score(): return 10**400", "wrong_type"),
    "closes every file": ("import os\nos.closerange(0, 100)", "crashed"),
    "writes a reply": (
        "import os\nfor n in range(3, 20):\n    try: os.write(n, b'{\"score\": 1e999}')\n    except OSError: pass\n"
        "os._exit(0)",
        "crashed",
    ),
}
EVALUATOR = """
import runpy
def evaluate(path):
    return {"combined_score": runpy.run_path(path)["score"]()}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> EvaluatorFolder:
    path = tmp_path_factory.mktemp("faults")
    (path / "initial_program.py").write_text(GOOD)
    (path / "evaluator.py").write_text(EVALUATOR)
    return folders.openevolve(path)


@WALLS
@pytest.mark.parametrize("deed", list(DEEDS))
def test_a_deed_costs_one_candidate_by_name(folder: EvaluatorFolder, deed: str, walls: bool) -> None:
    if deed == "kills everybody" and not walls:
        pytest.skip("without a process namespace it would mean it")
    text, failure = DEEDS[deed]
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(f"{GOOD}{text}\n")
        assert (found.score, found.failure) == (None, failure), found
        assert len(found.output) <= 4096 and len(found.detail) <= 2000
        assert process.evaluate(GOOD).score == 1.5, "the next one is unharmed"


TAKES_AWAY = {
    "its folders": "shutil.rmtree(top)",
    "their names": "os.rename(top, top + '-gone')",
    "the copy for a file": "shutil.rmtree(copy)\nopen(copy, 'w').close()",
    "everything for a link": "shutil.rmtree(top)\nos.symlink('/nowhere', top)",
}
"""What a program may do to the folders that it works in, where there are no namespaces."""


@pytest.mark.parametrize("deed", list(TAKES_AWAY))
def test_who_takes_the_folders_away_harms_nobody_after_it(folder: EvaluatorFolder, deed: str) -> None:
    found = "import os, shutil\ncopy = os.path.dirname(os.getcwd())\ntop = os.path.dirname(copy)\n"
    mark = Path(tempfile.gettempdir())
    before = set(mark.glob("moevolve-evaluation-*"))
    with EvaluatorProcess(folder, LIMITS, walls=False) as process:
        for _ in range(2):
            process.evaluate(f"{GOOD}{found}{TAKES_AWAY[deed]}\n")
            assert process.evaluate(GOOD).score == 1.5
    for left in set(mark.glob("moevolve-evaluation-*-gone")) - before:
        shutil.rmtree(left)
    assert set(mark.glob("moevolve-evaluation-*")) == before


def test_a_folder_that_is_too_large_leaves_nothing(folder: EvaluatorFolder) -> None:
    large = folder.path / "large"
    with large.open("wb") as file:
        file.truncate(65 << 20)
    before = set(Path(tempfile.gettempdir()).glob("moevolve-evaluation-*"))
    try:
        with pytest.raises(UsageError, match="holds more than"):
            EvaluatorProcess(folder, LIMITS, walls=False).start()
    finally:
        large.unlink()
    assert set(Path(tempfile.gettempdir()).glob("moevolve-evaluation-*")) == before


@WALLS
def test_nothing_is_left_of_a_process(folder: EvaluatorFolder, walls: bool) -> None:
    # A time that nobody else on this machine sleeps for.
    mark = f"{86400 + walls}.{os.getpid()}"
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        for deed in ("forks a daemon", "leaves a child", "hangs in a thread"):
            assert process.evaluate(f"{GOOD}{DEEDS[deed][0]}\n").failure == DEEDS[deed][1]
        daemon = f"import os\nif not os.fork():\n    os.setsid()\n    os.execlp('sleep', 'sleep', '{mark}')"
        assert process.evaluate(f"{GOOD}{daemon}\n").failure == "left_processes"
        assert not sleeping(mark)


@WALLS
def test_nothing_outlives_a_host_that_is_killed(folder: EvaluatorFolder, walls: bool, tmp_path: Path) -> None:
    mark = "86400.125"
    before = set(Path(tempfile.gettempdir()).glob("moevolve-evaluation-*"))
    deed = f"import subprocess, time\nsubprocess.Popen(['sleep', '{mark}'])\ntime.sleep(10**6)\n"
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from moevolve.tasks.evaluators import folder as folders\n"
        "from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess\n"
        f"process = EvaluatorProcess(folders.openevolve(Path({str(folder.path)!r})), EvaluatorLimits(), walls={walls})\n"
        f"process.submit({deed!r}, 0)\n"
        "print(process._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        started = int(host.stdout.readline())
        wait_for(lambda: sleeping(mark))
        host.kill()
        host.wait()
    wait_for(lambda: not sleeping(mark))
    wait_for(lambda: not Path(f"/proc/{started}").exists())
    left = set(Path(tempfile.gettempdir()).glob("moevolve-evaluation-*")) - before
    wait_for(lambda: not any(path.exists() for path in left))


def sleeping(mark: str) -> bool:
    """Whether a process that was told to sleep for so long is there."""
    found = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found = found or path.read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits for what must come; a test that waits in vain fails by its deadline."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_an_evaluator_may_use_a_pool_of_processes(tmp_path: Path) -> None:
    (tmp_path / "initial_program.py").write_text("X = 3\n")
    (tmp_path / "evaluator.py").write_text(
        "import runpy\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def run(path):\n    return runpy.run_path(path)['X']\n"
        "def evaluate(path):\n    with ProcessPoolExecutor(2) as pool:\n"
        "        return {'combined_score': sum(pool.map(run, [path] * 4))}\n"
    )
    with EvaluatorProcess(folders.openevolve(tmp_path), LIMITS) as process:
        assert process.evaluate("X = 3\n").score == 12


def test_walls(folder: EvaluatorFolder, tmp_path: Path) -> None:
    """What a program sees of the machine, told by the evaluation itself."""
    secret = tmp_path / "secret"
    secret.write_text("key")
    text = f"""
        import os, socket
        def tried(call):
            try:
                call()
                return True
            except OSError:
                return False
        def score():
            deeds = [
                tried(lambda: open({str(secret)!r})),
                tried(lambda: os.listdir({str(folder.path)!r})),
                tried(lambda: os.listdir("/var/log")),
                tried(lambda: open("/usr/lib/x", "w")),
                tried(lambda: open("/x", "w")),
                tried(lambda: socket.create_connection(("127.0.0.1", 22), 1)),
                tried(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
                tried(lambda: open("/proc/1/mem", "rb")),
                tried(lambda: os.readlink("/proc/1/cwd")),
                tried(lambda: os.mknod("/tmp/disk", 0o660 | 0o060000, os.makedev(8, 0))),
                tried(lambda: os.setuid(0)),
                tried(lambda: os.chmod("/dev/null", 0o600)),
                tried(lambda: os.utime("/dev/zero")),
                tried(lambda: os.chmod("/usr", 0o700)),
                not tried(lambda: open("/dev/null", "w").write("gone")),
                any(name.endswith("KEY") for name in os.environ),
                len([name for name in os.listdir("/proc") if name.isdigit()]) > 3,
            ]
            return float(sum(2**n for n, done in enumerate(deeds) if done))
    """
    with EvaluatorProcess(folder, LIMITS) as process:
        if process.missing:
            pytest.skip(f"no namespaces here: {process.missing}")
        assert process.evaluate(textwrap.dedent(text)).score == 0.0
        assert process.evaluate(GOOD).score == 1.5


def test_files_of_an_evaluation_are_gone_at_the_next(folder: EvaluatorFolder) -> None:
    writes = "open('/tmp/left', 'w').write('1')\nopen('beside', 'w').write('1')\nopen('/dev/shm/left', 'w').write('1')\n"
    reads = "import os\ndef score(): return float(sum(map(os.path.exists, ('/tmp/left', 'beside', '/dev/shm/left'))))\n"
    fills = "open('/tmp/left', 'wb').write(bytes(64 << 20))\n"
    with EvaluatorProcess(folder, LIMITS) as process:
        assert process.evaluate(GOOD + writes).score == 1.5
        assert process.evaluate(reads).score == 0.0
        assert process.evaluate(GOOD + fills).failure in ("error", "crashed")
        assert process.evaluate(reads).score == 0.0
    assert sorted(path.name for path in folder.path.iterdir()) == ["evaluator.py", "initial_program.py"]


def test_modules_that_a_program_changes_are_as_they_were(folder: EvaluatorFolder) -> None:
    with EvaluatorProcess(folder, LIMITS) as process:
        assert (
            process.evaluate("import builtins, math\nmath.pi = 3\nbuiltins.sum = None\n" + GOOD).score == 1.5
        )
        assert process.evaluate("import math\ndef score(): return sum([math.pi])\n").score == pytest.approx(
            3.14159, abs=1e-5
        )
