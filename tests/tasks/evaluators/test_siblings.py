"""What a program does around its evaluation: the next one neither suffers nor sees it, and limits are of the whole."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import moevolve
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess

LIMITS = EvaluatorLimits(seconds=5, memory_mb=512, processes=8, output_kb=64, disk_mb=8)
GOOD = "def score(): return 1.5\n"
EVALUATOR = """
import runpy
def evaluate(path):
    found = runpy.run_path(path)["score"]()
    return found if isinstance(found, dict) else {"combined_score": found}
"""
SHARED = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
def shared(key, size, flags):
    return libc.shmget(key, ctypes.c_size_t(size), flags)
"""
LIMITED = {
    "memory of several processes beneath a stream of words": (
        "import os, sys, time\n"
        "for n in range(3):\n    if not os.fork():\n        x = b'x' * (300 << 20)\n        time.sleep(10**6)\n"
        "while True:\n    print('.', flush=True)\n    time.sleep(0.01)",
        "memory",
    ),
    "memory in files without a name": (
        "import os, time\n"
        "for n in range(100):\n    os.write(os.memfd_create('x'), b'x' * (7 << 20))\n"
        "time.sleep(10**6)",
        "memory",
    ),
    "files in its folder": ("file = open('beside', 'wb')\nwhile True: file.write(bytes(1 << 20))", "error"),
    "files without content": (
        "import os\nfor n in range(10**6):\n    os.close(os.open(f'/tmp/{n}', os.O_CREAT))",
        "error",
    ),
    "a reply that is too long": (
        "def score(): return {'combined_score': 1.0, 'artifacts': {str(n): 'x' * 32768 for n in range(256)}}",
        "output",
    ),
    "a metric that is too deep": (
        "deep = []\nfor n in range(10**5): deep = [deep]\ndef score(): return {'combined_score': 1.0, 'deep': deep}",
        "error",
    ),
    "threads without end": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(10**6,)).start()",
        "error",
    ),
}
IN_NAMESPACES = {
    "memory in segments that no process holds": (
        SHARED
        + "import time\n"
        + "for n in range(8):\n    at = libc.shmat(shared(0, 100 << 20, 0o1600), None, 0)\n"
        + "    ctypes.memset(at, 1, 100 << 20)\n    libc.shmdt(ctypes.c_void_p(at))\n"
        + "time.sleep(10**6)",
        "memory",
    ),
}
HARMLESS = {
    "prints what looks like a result": """print('{"score": 99.0, "failure": null}')""",
    "prints no text": "import os\nos.write(1, bytes(range(256)))",
    "changes its folder": "import os\nos.chdir('/')",
    "closes its input": "import os\nos.close(0)",
    "begins another session's group": "import os\nos.setpgid(0, 0) if os.getpid() != os.getsid(0) else None",
    "signals its parent": (
        "import os, signal\n"
        "for n in range(1, 32):\n    try: os.kill(os.getppid(), n)\n    except OSError: pass"
    ),
    "raises its own priority": "import os\ntry: os.nice(-5)\nexcept OSError: pass",
    "forks and waits": "import os\npid = os.fork()\nif not pid: os._exit(3)\nos.waitpid(pid, 0)",
    "removes what lies beside it": (
        "import os\nfor name in os.listdir('.'):\n    try: os.remove(name)\n    except OSError: pass"
    ),
    "closes folders": (
        "import os\nfor path in ('/tmp', '/dev/shm', '.'):\n    try: os.chmod(path, 0)\n    except OSError: pass"
    ),
    "replaces its own folder": (
        "import os, shutil\nshutil.rmtree('/tmp/candidate', ignore_errors=True)\nos.symlink('/', '/tmp/candidate')"
    ),
}
RETURNED = {
    "many metrics": "def score(): return {**{f'm{n}': n for n in range(10**5)}, 'combined_score': 1.5}",
    "words that are no Unicode": (
        "def score(): return {'combined_score': 1.5, 'note': '\\udc80', 'artifacts': {'\\ud800': '\\udfff'}}"
    ),
    "keys that are no words": "def score(): return {'combined_score': 1.5, 7: 1, None: 2, (1, 2): 3}",
    "metrics that are no numbers": (
        "def score(): return {'combined_score': 1.5, 'a': float('nan'), 'b': [1], 'c': None, 'd': 1j}"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> EvaluatorFolder:
    path = tmp_path_factory.mktemp("siblings")
    (path / "initial_program.py").write_text(GOOD)
    (path / "evaluator.py").write_text(EVALUATOR)
    (path / "data.txt").write_text("1.5")
    return folders.openevolve(path)


@pytest.mark.parametrize("deed", list(LIMITED))
@pytest.mark.parametrize("walls", [True, False], ids=["walls", "no-namespaces"])
def test_a_limit_holds_for_all_of_an_evaluation(folder: EvaluatorFolder, deed: str, walls: bool) -> None:
    if not walls and deed.startswith("files"):
        pytest.skip("without namespaces files are the machine's")
    text, failure = LIMITED[deed]
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(f"{GOOD}{text}\n")
        assert (found.score, found.failure) == (None, failure), found
        assert process.evaluate(GOOD).score == 1.5


@pytest.fixture
def process(folder: EvaluatorFolder) -> EvaluatorProcess:
    process = EvaluatorProcess(folder, LIMITS)
    process.start()
    if process.missing:
        process.close()
        pytest.skip(f"no namespaces here: {process.missing}")
    return process


@pytest.mark.parametrize("deed", list(IN_NAMESPACES))
def test_a_limit_holds_for_what_belongs_to_no_process(process: EvaluatorProcess, deed: str) -> None:
    text, failure = IN_NAMESPACES[deed]
    with process:
        assert process.evaluate(f"{GOOD}{text}\n").failure == failure
        assert process.evaluate(GOOD).score == 1.5


@pytest.mark.parametrize("deed", list(HARMLESS))
def test_a_deed_changes_neither_its_own_score_nor_the_next(process: EvaluatorProcess, deed: str) -> None:
    reads = "def score(): return float(open('data.txt').read())\n"
    with process:
        assert process.evaluate(f"{GOOD}{HARMLESS[deed]}\n").score == 1.5
        assert process.evaluate(f"{reads}open('/tmp/x', 'w').close()\n").score == 1.5


@pytest.mark.parametrize("text", list(RETURNED))
def test_what_is_returned_beside_a_score_does_not_take_it(process: EvaluatorProcess, text: str) -> None:
    with process:
        found = process.evaluate(f"{RETURNED[text]}\n")
        assert (found.score, found.failure) == (1.5, None), found
        assert len(found.metrics) <= 256


def test_nothing_is_seen_of_the_evaluation_before(process: EvaluatorProcess) -> None:
    """Files, times, attributes and segments of memory are all gone."""
    writes = SHARED + (
        "import os\nshared(77, 4096, 0o1600)\nlibc.semget(78, 1, 0o1600)\nlibc.msgget(79, 0o1600)\n"
        "for path in ('/tmp', '/dev/shm', '.'):\n"
        "    os.utime(path, (1, 1))\n"
        "    try: os.setxattr(path, 'user.left', b'1')\n    except OSError: pass\n"
        "open('data.txt', 'w').write('9')\nopen('new', 'w').close()\n"
    )
    reads = SHARED + textwrap.dedent("""
        import os
        def score():
            seen = [shared(77, 4096, 0) >= 0, libc.semget(78, 1, 0) >= 0, libc.msgget(79, 0) >= 0]
            for path in ("/tmp", "/dev/shm", "."):
                seen += [os.stat(path).st_atime == 1, "user.left" in os.listxattr(path)]
            seen += [open("data.txt").read() != "1.5", os.path.exists("new")]
            return float(sum(2**n for n, each in enumerate(seen) if each))
    """)
    with process:
        assert process.evaluate(GOOD + writes).score == 1.5
        assert process.evaluate(reads).score == 0.0


KEYS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
add, request, control = (248, 249, 250) if os.uname().machine == "x86_64" else (217, 218, 219)
def score():
    seen = 0
    for number, ring in enumerate((-3, -4, -5)):
        seen += 2**number * (libc.syscall(control, 10, ring, b"user", b"left", 0) > 0)
        libc.syscall(add, b"user", b"left", b"1", 1, ring)
    seen += 8 * (libc.syscall(request, b"user", b"left", None, -4) > 0)
    if os.uname().machine == "x86_64":
        seen += 16 * (libc.syscall(0x40000000 | control, 0, -3, 1) > 0)
    return float(seen)
"""


@pytest.mark.parametrize("walls", [True, False], ids=["walls", "no-namespaces"])
def test_no_key_of_a_program_is_seen_by_the_next(folder: EvaluatorFolder, walls: bool) -> None:
    """A user's keyring outlives every process and namespace of the user's."""
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        process.start()
        if "key filter" in process.sandbox.missing:
            pytest.skip("this machine has no filter of system calls")
        assert [process.evaluate(KEYS).score for _ in range(3)] == [0.0, 0.0, 0.0]


SEES = """
import ctypes, os, resource
def namespace(name): return os.readlink(f"/proc/self/ns/{name}") != HOST[name]
def score():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 1)
    names = {"user": "user", "mnt": "mount", "pid": "pid", "net": "network", "ipc": "ipc", "uts": "uts"}
    seen = {f"{name} namespace": namespace(kind) for kind, name in names.items()}
    seen["private root"] = not os.path.exists(HERE)
    seen["/proc"] = os.path.exists("/proc/self")
    seen["key filter"] = ctypes.get_errno() == 38
    seen["limits"] = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return {"combined_score": 1.0, **seen}
"""


@pytest.mark.parametrize("walls", [True, False], ids=["walls", "no-namespaces"])
def test_the_layers_that_are_told_are_those_that_an_evaluation_sees(
    folder: EvaluatorFolder, walls: bool
) -> None:
    host = {
        kind: str(Path(f"/proc/self/ns/{kind}").readlink())
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts")
    }
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(f"HOST, HERE = {host!r}, {__file__!r}\n{SEES}")
        seen = {name for name, there in found.metrics.items() if there is True}
        assert seen == set(process.sandbox.layers), found
        assert set(found.metrics) - {"combined_score"} - seen == set(process.sandbox.missing)


def test_a_process_that_is_forked_imports_little() -> None:
    """Each module of it is copied, page by page, for every evaluation."""
    heavy = "typing ast inspect dis traceback tokenize pathlib runpy asyncio tempfile subprocess threading logging"
    code = f"import sys, moevolve.tasks.evaluators.inside.server\nprint(sorted(set({heavy.split()}) & set(sys.modules)))"
    package = Path(moevolve.__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(package)!r})\n{code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout == "[]\n"


def test_generators_start_from_the_key_whoever_imports_them(tmp_path: Path) -> None:
    """`numpy.random` too, where the program alone imports it; a package of its shape stands in for it."""
    (tmp_path / "initial_program.py").write_text("X = 2\n")
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    (tmp_path / "numpy" / "random.py").write_text(
        "import os\nSTATE = [os.urandom(1)[0]]\ndef seed(n): STATE[0] = n % 1000\n"
    )
    (tmp_path / "evaluator.py").write_text(
        "import runpy\ndef evaluate(path):\n    return {'combined_score': runpy.run_path(path)['X']}\n"
    )
    with EvaluatorProcess(folders.openevolve(tmp_path), LIMITS) as process:
        for text in ("import numpy.random\nX = numpy.random.STATE[0]", "import random\nX = random.random()"):
            first, same, other = (process.evaluate(text, key).score for key in (4242, 4242, 7))
            assert first == same != other and first is not None
        assert process.evaluate("import numpy.random\nX = numpy.random.STATE[0]", 4242).score == 242


def test_processes_of_a_program_draw_differently_and_bind_as_anywhere(tmp_path: Path) -> None:
    (tmp_path / "initial_program.py").write_text("X = 2\n")
    (tmp_path / "evaluator.py").write_text(
        "import os, random\n"
        "def drawn():\n"
        "    ours, theirs = os.pipe()\n"
        "    if not os.fork():\n"
        "        os.write(theirs, str(random.random()).encode())\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    return os.read(ours, 100).decode()\n"
        "def evaluate(path):\n"
        "    alike = len({drawn(), drawn(), str(random.random())}) < 3\n"
        "    return {'combined_score': random.gauss(0, 1), 'alike': alike, 'bound': 'LD_BIND_NOW' in os.environ}\n"
    )
    with EvaluatorProcess(folders.openevolve(tmp_path), LIMITS) as process:
        found = [process.evaluate("X = 2", 1) for _ in range(2)]
    assert found[0].score == found[1].score
    assert not any(each.metrics["alike"] or each.metrics["bound"] for each in found)


def test_modules_beside_an_evaluator_may_bear_names_of_ours(tmp_path: Path) -> None:
    (tmp_path / "initial_program.py").write_text("X = 2\n")
    for name in ("contracts", "walls", "watch", "server", "records", "errors", "numpy", "random"):
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    (tmp_path / "evaluator.py").write_text(
        "import runpy\nimport contracts, errors, numpy, records, server, walls, watch\n"
        "def evaluate(path):\n"
        "    modules = (contracts, errors, numpy, records, server, walls, watch)\n"
        "    return {'combined_score': runpy.run_path(path)['X'] + sum(each.VALUE for each in modules)}\n"
    )
    with EvaluatorProcess(folders.openevolve(tmp_path), LIMITS) as process:
        assert process.evaluate("X = 2\n").score == 9
