"""Programs that read clocks, entropy, addresses and names in good faith: the same twice, or refused by name."""

from __future__ import annotations

import random

import pytest

from moevolve.agents.process import in_force
from moevolve.protocol.requests import PublicTask

pytestmark = pytest.mark.skipif(
    "virtual clock" in in_force().missing, reason="needs the virtual clock's layer"
)

SOURCES = [
    "os.urandom(6).hex()",
    "os.getrandom(6).hex()",
    "secrets.token_hex(4)",
    "str(uuid.uuid4())",
    "str(uuid.uuid1())",
    "uuid.getnode()",
    "random.SystemRandom().random()",
    "random.Random().random()",
    "random.random()",
    "random.sample(range(99), 3)",
    "time.time()",
    "time.time_ns()",
    "time.monotonic()",
    "time.perf_counter_ns()",
    "time.process_time()",
    "time.thread_time()",
    "time.clock_gettime(time.CLOCK_REALTIME)",
    "time.clock_gettime(time.CLOCK_MONOTONIC)",
    "time.clock_gettime(time.CLOCK_BOOTTIME)",
    "time.localtime()",
    "time.ctime()",
    "time.sleep(3600)",
    "datetime.datetime.now().isoformat()",
    "datetime.datetime.now(datetime.timezone.utc)",
    "datetime.date.today()",
    "hash('text')",
    "hash(object())",
    "id(object())",
    "repr(object())",
    "[*{'a', 'b', 'c', 'd'}]",
    "sorted([object() for _ in range(3)], key=id)",
    "os.getpid()",
    "os.getppid()",
    "os.uname()",
    "os.times()",
    "os.cpu_count()",
    "os.getloadavg()",
    "os.listdir('/')",
    "os.sched_getaffinity(0)",
    "os.fork()",
    "resource.getrusage(0)",
    "socket.gethostname()",
    "platform.node()",
    "tempfile.mkdtemp()",
    "tempfile.gettempdir()",
    "next(tempfile._get_candidate_names())",
    "threading.Thread(target=print).start()",
    "threading.get_ident()",
    "threading.get_native_id()",
    "signal.alarm(1)",
    "signal.setitimer(signal.ITIMER_REAL, 1)",
    "asyncio.run(asyncio.sleep(0))",
    "concurrent.futures.ThreadPoolExecutor().submit(len, '')",
    "multiprocessing.Pool(2)",
    "subprocess.run(['date'])",
    "open('/proc/uptime').read()",
    "open('/dev/urandom', 'rb').read(4)",
    "open('/etc/hostname').read()",
    "__import__('ctypes')",
    "sys.getrefcount(None)",
]
"""Expressions that differ from run to run outside."""

MODULES = """asyncio concurrent.futures datetime multiprocessing os platform random resource secrets signal
socket subprocess sys tempfile threading time uuid""".split()  # noqa: SIM905  as short as it gets

PROGRAMS = 300


def body(draw: random.Random) -> str:
    """A program of a few readings in any order, in loops and behind imports."""
    lines = [f"import {', '.join(draw.sample(MODULES, len(MODULES)))}", "seen = []"]
    for source in draw.sample(SOURCES, draw.randint(1, 6)):
        lines += [
            f"for _ in range({draw.randint(1, 3)}):",
            "    try:",
            f"        seen.append(repr({source}))",
        ]
        lines += ["    except Exception as error:", "        seen.append(f'{type(error).__name__}: {error}')"]
        if draw.random() < 0.3:
            lines.append("await agent.generate('rev:a=')")
    return "\n".join([*lines, "raise LookupError('; '.join(seen))"])


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, 10))])
def test_programs_that_read_the_machine_read_the_same_twice(host, oracle, program, part):
    task = [PublicTask(prompt="rev:a=", skill="text/reverse")]
    for index in range(part, PROGRAMS, 10):
        genome = program(body(random.Random(index)))
        once, again = (host.solve(genome, task, oracle, None, [index])[0] for _ in range(2))
        assert once.failure == "error" and "LookupError" in once.detail, once
        assert once.detail == again.detail, genome.files["solve.py"]


def test_other_keys_draw_otherwise(host, oracle, program):
    genome = program("import os, uuid\nraise LookupError(os.urandom(8).hex(), uuid.uuid4())")
    task = [PublicTask(prompt="rev:a=", skill="text/reverse")]
    details = {host.solve(genome, task, oracle, None, [key])[0].detail for key in range(5)}
    assert len(details) == 5
